"""The command line's `model`: release and measure the shipped model, and make pickled weights readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..config import ASSETS, load_settings
from .options import WORK, Model, Work

EMOJI, EMOJI_DIFFUSION = ASSETS / "emoji", ASSETS / "emoji-diffusion"

model_group = typer.Typer(
    no_args_is_help=True, help="Release and measure the shipped model; write down pickled weights as safetensors."
)


@model_group.command("release")
def release(work: Work = WORK, out: Annotated[Path, typer.Option(help="where it ships")] = EMOJI_DIFFUSION) -> None:
    """Copy WORK/pipeline to the assets in half precision, with contact sheet, figures, model card and manifest."""
    from ..training.release import release as run

    run(work, EMOJI, out)


@model_group.command("figures")
def figures(model: Model = None, as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Measure the shipped model: reconstruction, speed, memory, and how well prompts are followed."""
    from ..training.figures import as_table, measure

    measured = measure(load_settings(model=model).model_spec(), EMOJI)
    typer.echo(json.dumps(measured, indent=1) if as_json else as_table(measured))


@model_group.command("safetensors")
def safetensors(
    path: Annotated[Path, typer.Argument(help="a .ckpt or .bin file, or the folder of a pipeline with such files")],
) -> None:
    """Write the weights of pickles beside them as .safetensors; programs in a pickle are not run."""
    from ..models.pickled import as_safetensors

    for file in as_safetensors(path):
        typer.echo(f"{file}")
