"""The command line's `index`: build the index of a training set, and inspect it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import Settings, load_settings, parse_adapter
from ..visible import visible
from .check import index_check
from .index_options import WEIGHTS, AnsweredBy, Draws, Embedders, FitChoice, FlipChoice, Null, NullCount, Sketch
from .options import (
    Dtype,
    KeyChoices,
    Lora,
    Model,
    PictureSize,
    RayAddress,
    RayWorkers,
    SweepExecutor,
    TorchDevice,
)
from .telling import Telling, spoken

if TYPE_CHECKING:
    from ..examples.catalog import Catalog
    from ..examples.metadata import TrainingFolder
    from ..index.build import BuildPlan
    from ..index.store import Index
    from ..models.protocol import PictureModel

index = typer.Typer(no_args_is_help=True, help="Build and inspect the index of a training set.")
index.command("check")(index_check)


@index.command("build")
def index_build(
    folder: Path,
    out: Annotated[Path, typer.Option(help="folder to write; a build that was cut off there goes on")],
    key: KeyChoices = None,
    strict: Annotated[bool, typer.Option("--strict", help="refuse a folder with pictures that cannot be read")] = False,
    model: Model = None,
    lora: Lora = None,
    picture_size: PictureSize = None,
    device: TorchDevice = None,
    dtype: Dtype = None,
    executor: SweepExecutor = None,
    ray_address: RayAddress = None,
    ray_workers: RayWorkers = None,
    method: AnsweredBy = "forward_inf",
    draws: Draws = None,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
    tunable: Annotated[str | None, typer.Option(help=f"weights that a query may move: {WEIGHTS}")] = None,
    embedder: Embedders = "unet",
    null_pictures: NullCount = None,
    null: Null = "",
    fit: FitChoice = None,
    flip: FlipChoice = None,
    kronecker: Annotated[bool, typer.Option("--kronecker", help="keep what curvature=kronecker needs")] = False,
    sketch: Sketch = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what it takes, from 30 s of measuring")] = False,
) -> None:
    """Index a folder of training images: with metadata, captions in .txt files, Parquet, or WebDataset tars."""
    from ..attribution.build_whole import WholePlan, build_whole
    from ..attribution.executor import load_executor
    from ..attribution.planning import method_for, plan_for
    from ..models.memory import need_of
    from ..models.registry import load_model

    by, read = method_for(method), read_folder(folder, key or [], strict)
    where = {"executor": executor, "ray_address": ray_address, "ray_workers": ray_workers}
    settings = load_settings(model=model, lora=lora, device=device, dtype=dtype, picture_size=picture_size, **where)
    spec = settings.model_spec(tunable, fit=fit.value if fit else None, flip=_flip(flip, settings))
    if need := need_of(spec):
        typer.echo(f"{need}.", err=True)
    sweeps, source, loaded = load_executor(settings), read.catalog, load_model(spec)
    tell_cut_captions(loaded, source)
    plan = plan_for(by, draws, seed=seed, embedder=embedder, kronecker=kronecker)
    asked = Asked(null, null_pictures)
    if dry_run:
        typer.echo(_cost(loaded, source, plan, sketch, asked.at_most(source, loaded)))
        return
    with closing(Telling()) as tell:
        built = build_whole(loaded, read, out, WholePlan(plan, sketch, null, asked.count), tell, sweeps)
    typer.echo(f"{out}: {summary(built, asked.count > 0)}")


@dataclass(frozen=True)
class Asked:
    """Which null pictures were asked for, and how many; None for the usual number."""

    null: str
    number: int | None

    @property
    def count(self) -> int:
        from ..attribution.build_null import QUERIES

        return QUERIES if self.number is None else self.number

    def at_most(self, source: Catalog, model: PictureModel) -> int:
        """How many there will be, but for a folder that has fewer."""
        from ..attribution.build_null import HELD_OUT

        held_out = len(source.of_split("held_out").images)
        only_held_out = self.null == HELD_OUT or not (self.null or model.spec.adapter)
        return min(self.count, held_out) if only_held_out else self.count


def _flip(given: bool | None, settings: Settings) -> bool:
    """Whether mirrored pictures are weighed: as was said, or else as the LoRA states; that is told on stderr."""
    from ..examples.stated import Stated
    from ..models.adapter_file import read_adapter

    if given is not None or not settings.lora:
        return bool(given)
    stated = bool(Stated.of(read_adapter(parse_adapter(settings.lora).file).metadata).flips)
    if stated:
        typer.echo(
            "the LoRA was trained on mirrored pictures too, which are weighed as well; not with --no-flip", err=True
        )
    return stated


def read_folder(folder: Path, key: list[str], strict: bool) -> TrainingFolder:
    """The training images of a folder; how it was read is told on stderr."""
    from ..examples.layouts.keys import parse_choices
    from ..examples.metadata import read_training_folder

    with closing(Telling()) as tell:
        told = partial(tell, "reading")
        read = read_training_folder(folder, parse_choices(key), decode=True, strict=strict, on_progress=told)
    typer.echo(visible(read.described()), err=True)
    return read


def tell_cut_captions(model: PictureModel, source: Catalog) -> None:
    """How many captions are read in part only; on stderr."""
    if not model.reads_prompts:
        typer.echo("This model is unconditional: captions are shown, but not read.", err=True)
    elif cut := sum(bool(model.unread_text(image.caption)) for image in source.images):
        told = f"{cut:,} of {len(source.images):,} captions are longer than the model reads; their ends are left out."
        typer.echo(told, err=True)


def summary(built: Index, asked: bool) -> str:
    from ..index.info import prepared

    compared = f"{len(built.null_changes.queries) if asked and built.null_changes else 'none'} null pictures"
    made = f"{built.info.draw_count} draws each, {compared}, fingerprint {built.fingerprint[:12]}…"
    skipped = f" ({built.info.skipped:,} skipped)" if built.info.skipped else ""
    how = prepared(built.info.fit, built.info.flip)
    return f"{built.info.examples:,} images{skipped} by {how}, {made}"


def _cost(model: PictureModel, source: Catalog, plan: BuildPlan, sketch: bool, null_pictures: int) -> str:
    """What a build takes, as a table."""
    from ..attribution.cost import cost_of

    cost = cost_of(model, source, plan, sketch, null_pictures)
    over = "over " if cost.at_least else ""
    rows = [("stage", "forwards", "backwards", "disk", "time")]
    for s in (*cost.stages, cost.total):
        rows.append((s.name, f"{s.forwards:,}", f"{s.backwards:,}", _size(s.disk), over + spoken(s.seconds)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([f"{name:{widths[0]}}", *map(str.rjust, row, widths[1:])]) for name, *row in rows]
    where = "on this machine alone, from building the index of"
    lines += ["", f"{cost.images:,} images, {where} {cost.measured_on} of them. Nothing was written."]
    if cost.at_least:
        lines.append("Even that took too long to be finished, so that times are no more than lower bounds.")
    return "\n".join(lines)


def _size(size: int) -> str:
    number, unit = next(
        (size / n, unit) for n, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")) if size >= n or n == 1
    )
    return f"{number:.3g} {unit}"


@index.command("embed")
def index_embed(
    folder: Path,
    images: Annotated[Path, typer.Option(help="folder that the index was built from")],
    out: Annotated[Path, typer.Option(help="new folder to write")],
    key: KeyChoices = None,
    embedder: Embedders = "artwork",
    model: Model = None,
    lora: Lora = None,
    device: TorchDevice = None,
) -> None:
    """Copy an index, with another embedder; its null has to be measured again, by `index build`."""
    from ..embedders.registry import load_embedder
    from ..examples.layouts.keys import parse_choices
    from ..examples.metadata import training_images
    from ..index.embed import embed_anew
    from ..index.store import Index
    from ..models.registry import load_model

    opened = Index.open(folder)
    pictures = training_images(images, parse_choices(key or ()))
    settings = load_settings(model=model, lora=lora, device=device)
    loaded = load_model(opened.info.applied_to(settings.model_spec(opened.info.tunable, opened.info.dtype)))
    opened.require(loaded)
    with closing(Telling()) as tell:
        by = load_embedder(embedder, loaded)
        made = embed_anew(opened, by, pictures, out, partial(tell, "embeddings"))
    typer.echo(f"{out}: {made.info.examples:,} images by {made.info.embedder}, no null, {made.fingerprint[:12]}…")
