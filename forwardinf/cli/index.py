"""The command line's `index`: build the index of a training set, and inspect it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import load_settings
from ..types import ModelSpec
from .options import (
    Dtype,
    Model,
    RayAddress,
    RayWorkers,
    SweepExecutor,
    TorchDevice,
    progress_bar,
    reporting_to,
)

if TYPE_CHECKING:
    from ..attribution.attributor import Attributor
    from ..examples.catalog import Catalog
    from ..index.store import Index
    from ..models.protocol import PictureModel

WEIGHTS = "cross-attention k,v | attention | all | a regular expression over names of the UNet's weights"

index = typer.Typer(no_args_is_help=True, help="Build and inspect the index of a training set.")


@index.command("build")
def index_build(
    folder: Path,
    out: Annotated[Path, typer.Option(help="folder to write; a build that was cut off there goes on")],
    model: Model = None,
    device: TorchDevice = None,
    dtype: Dtype = None,
    executor: SweepExecutor = None,
    ray_address: RayAddress = None,
    ray_workers: RayWorkers = None,
    draws: Annotated[int | None, typer.Option(min=1, help="draws per image, by default 4")] = None,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
    tunable: Annotated[str, typer.Option(help=f"weights that a query may move: {WEIGHTS}")] = ModelSpec.tunable,
    embedder: Annotated[
        str, typer.Option(help="visual similarity by: unet | vae | Hub id or folder of a CLIP or DINOv2 checkpoint")
    ] = "unet",
    null_pictures: Annotated[
        int | None,
        typer.Option(
            min=0, help="held-out images to run as queries, so that answers can say what stands out; by default 29"
        ),
    ] = None,
    kronecker: Annotated[bool, typer.Option("--kronecker", help="keep what curvature=kronecker needs")] = False,
    sketch: Annotated[
        bool, typer.Option(help="keep 4 KB an image that say where to look first, so that answers weigh few images")
    ] = True,
) -> None:
    """Index an image folder (metadata.jsonl with file_name and text) or a folder with a catalog.parquet."""
    from ..attribution.attributor import Attributor
    from ..attribution.build_null import QUERIES
    from ..attribution.executor import load_executor
    from ..embedders.registry import load_embedder
    from ..examples.metadata import training_images
    from ..index.build import BuildPlan, build_index
    from ..models.registry import load_model

    source = training_images(folder)
    where = {"executor": executor, "ray_address": ray_address, "ray_workers": ray_workers}
    settings = load_settings(model=model, device=device, dtype=dtype, **where)
    sweeps = load_executor(settings)
    loaded = load_model(settings.model_spec(tunable))
    plan = BuildPlan(draws=draws or BuildPlan.draws, seed=seed, embedder=embedder, kronecker=kronecker)
    with progress_bar("img") as bar:
        built = build_index(loaded, source, out, plan, reporting_to(bar))
    if sketch:
        built = _with_sketch(loaded, built)
    asked = min(QUERIES if null_pictures is None else null_pictures, len(built.catalog.of_split("held_out").images))
    if asked:
        attributor = Attributor(loaded, built, load_embedder(embedder, loaded), executor=sweeps)
        built = _with_null(attributor, source, asked, seed)
    typer.echo(f"{out}: {_summary(built, asked)}")


def _summary(built: Index, asked: int) -> str:
    compared = f"{len(built.null_changes.queries) if asked and built.null_changes else 'none'} null pictures"
    made = f"{built.info.draw_count} draws each, {compared}, fingerprint {built.fingerprint[:12]}…"
    return f"{built.info.examples:,} images, {made}"


def _with_sketch(model: PictureModel, built: Index) -> Index:
    from ..attribution.build_sketch import build_sketch

    with progress_bar("img") as bar:
        return build_sketch(model, built, on_progress=reporting_to(bar))


def _with_null(attributor: Attributor, source: Catalog, count: int, seed: int) -> Index:
    from ..attribution.attributor import DEFAULT_METHOD
    from ..attribution.build_null import build_null

    with progress_bar("picture") as bar:
        return build_null(attributor, DEFAULT_METHOD, source, count, seed, reporting_to(bar))


@index.command("info")
def index_info(folder: Path) -> None:
    """What an index was made with, as JSON."""
    from ..index.info import read_info

    typer.echo(json.dumps(asdict(read_info(folder)), indent=1))


@index.command("verify")
def index_verify(folder: Path) -> None:
    """Check every file of an index against its manifest."""
    from ..index.store import Index

    opened = Index.open(folder)
    typer.echo(f"{folder}: {opened.info.examples:,} images, every file as recorded, {opened.fingerprint[:12]}…")
