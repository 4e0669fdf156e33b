"""`forwardinf regenerate`: draw a training image's own caption, and see how near the model comes to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, Dtype, EmbedderFolder, IndexFolder, Lora, Model, TorchDevice, load_attributor, progress_bar


def regenerate(
    example_id: Annotated[str, typer.Argument(help="id of a training image, as `attribute` lists it")],
    seeds: Annotated[int, typer.Option(min=1, help="how many pictures to draw, with seeds from 0")] = 8,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="folder for the pictures")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder for what is drawn once for an index")] = None,
    index: IndexFolder = None,
    model: Model = None,
    lora: Lora = None,
    embedder: EmbedderFolder = None,
    device: TorchDevice = None,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Say how near the model comes to a training image from its caption, beside images that it never saw."""
    from ..attribution.regeneration import regenerated

    flags = {"model": model, "lora": lora, "embedder": embedder, "device": device, "dtype": dtype}
    attributor = load_attributor(index, None, cache, **flags)
    with progress_bar("img") as bar:
        for found in regenerated(attributor, example_id, seeds, cache):
            bar.total = found.seeds + found.others
            bar.update(len(found.drawn) + len(found.reach) - bar.n)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for drawn in found.drawn:
            drawn.picture.save(out / f"seed-{drawn.seed}.png")
    if as_json:
        asked = {"id": found.image.id, "caption": found.image.caption, "verdict": found.in_words, "near": found.near}
        nearness = [{"seed": drawn.seed, "likeness": drawn.likeness} for drawn in found.drawn]
        typer.echo(json.dumps({**asked, "drawn": nearness, "held_out": list(found.reach)}, indent=1))
        return
    typer.echo(f"{found.image.id}, “{found.image.caption}”")
    typer.echo("\n".join(f"  seed {drawn.seed}: {drawn.likeness:.3f}" for drawn in found.drawn))
    typer.echo(found.in_words)
