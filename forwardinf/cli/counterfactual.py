"""`forwardinf counterfactual`: a prompt drawn again, had the model not learned from some training images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import AsJson, Dtype, EmbedderFolder, IndexFolder, Lora, Model, TorchDevice, load_attributor, progress_bar

if TYPE_CHECKING:
    from ..attribution.counterfactual import Redrawn


def counterfactual(
    prompt: str,
    without: Annotated[
        list[str], typer.Option(help="id of a training image, as `attribute` lists it; may be repeated")
    ],
    seed: Annotated[list[int], typer.Option(help="noise seed to draw with; may be repeated")] = [0, 1, 2],  # noqa: B006
    out: Annotated[Path | None, typer.Option("-o", "--out", help="folder for the pictures")] = None,
    index: IndexFolder = None,
    model: Model = None,
    lora: Lora = None,
    embedder: EmbedderFolder = None,
    device: TorchDevice = None,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Draw a prompt as the model is, without what it learned from some images, and without as many random ones."""
    from ..attribution import counterfactual as core

    flags = {"model": model, "lora": lora, "embedder": embedder, "device": device, "dtype": dtype}
    attributor = load_attributor(index, None, None, **flags)
    with progress_bar("step") as bar:
        for found in core.counterfactual(attributor, prompt, without, seed):
            bar.total = found.total
            bar.update(found.steps - bar.n)
    redrawn = [*found.of_prompt, *found.unrelated]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(redrawn):
            for name in ("before", "without_chosen", "without_random"):
                getattr(one, name).save(out / f"{number}-{name.replace('_', '-')}.png")
    if as_json:
        loss = {"before": found.loss_before, "after": found.loss_after}
        unlearned = {"without": found.chosen, "random": found.random, "loss": loss, "verdict": found.in_words}
        typer.echo(json.dumps({"prompt": prompt, **unlearned, "drawn": [_row(one) for one in redrawn]}, indent=1))
        return
    for one in redrawn:
        alike = f"without them {one.chosen_likeness:.2f}, without random ones {one.random_likeness:.2f}"
        typer.echo(f"  “{one.prompt}”, seed {one.seed}: {alike}")
    typer.echo(found.in_words)


def _row(one: Redrawn) -> dict[str, object]:
    alike = {"likeness_without": one.chosen_likeness, "likeness_without_random": one.random_likeness}
    return {"prompt": one.prompt, "seed": one.seed, **alike}
