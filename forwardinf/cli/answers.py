"""`forwardinf answers`: the finished answers that the app shows on its first screen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..config import EMOJI_ANSWERS
from .options import EmbedderFolder, IndexFolder, Model, TorchDevice, load_attributor

answers = typer.Typer(no_args_is_help=True, help="The finished answers that the app shows on its first screen.")


@answers.command("build")
def answers_build(
    out: Annotated[Path, typer.Option(help="folder to write; what is there is replaced")] = EMOJI_ANSWERS,
    index: IndexFolder = None,
    model: Model = None,
    embedder: EmbedderFolder = None,
    device: TorchDevice = None,
) -> None:
    """Answer the examples again, as is needed when the model or its index has changed."""
    from ..training.answers import build_answers

    attributor = load_attributor(index, None, None, model=model, device=device, embedder=embedder)
    built = build_answers(attributor, out, on_answer=lambda name: typer.echo(f"answered: {name}", err=True))
    typer.echo(f"{out}: {len(built)} answers")
