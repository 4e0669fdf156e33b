"""The command line's `index add`: more images for an index."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import load_settings
from ..errors import InvalidRequest
from .index import Asked, read_folder, summary, tell_cut_captions
from .index_info import index
from .index_options import Null, NullCount
from .options import KeyChoices, Lora, Model, RayAddress, RayWorkers, SweepExecutor, TorchDevice
from .telling import Telling

if TYPE_CHECKING:
    from ..attribution.attributor import Attributor
    from ..examples.catalog import Catalog
    from ..examples.metadata import TrainingFolder
    from ..index.grow import Grown
    from ..index.store import Index
    from ..models.protocol import PictureModel


@index.command("add")
def index_add(
    folder: Path,
    to: Annotated[Path, typer.Argument(metavar="INDEX", help="the index to add them to")],
    key: KeyChoices = None,
    strict: Annotated[bool, typer.Option("--strict", help="refuse a folder with pictures that cannot be read")] = False,
    model: Model = None,
    lora: Lora = None,
    device: TorchDevice = None,
    executor: SweepExecutor = None,
    ray_address: RayAddress = None,
    ray_workers: RayWorkers = None,
    null_pictures: NullCount = None,
    null: Null = "",
) -> None:
    """Add a folder's images that an index does not have yet; nothing is measured of the others but the null."""
    from ..attribution.attributor import Attributor
    from ..attribution.build_sketch import build_sketch
    from ..attribution.executor import load_executor
    from ..attribution.planning import method_for
    from ..embedders.registry import load_embedder
    from ..index.grow import grow, open_to_grow
    from ..models.registry import load_model

    opened = open_to_grow(to)
    read = read_folder(folder, key or [], strict)
    source = read.catalog
    where = {"executor": executor, "ray_address": ray_address, "ray_workers": ray_workers}
    settings = load_settings(model=model, lora=lora, device=device, **where)
    sweeps = load_executor(settings)
    loaded = load_model(opened.info.applied_to(settings.model_spec(opened.info.tunable, opened.info.dtype)))
    tell_cut_captions(loaded, source)
    embedder = load_embedder(settings.embedder or opened.info.embedder, loaded)
    with closing(Telling()) as tell:
        grown = grow(loaded, opened, source, embedder, tell)
        if kept := opened.sketches:
            told = partial(tell, "sketches")
            by = method_for(grown.index.info.method)
            grown = replace(grown, index=build_sketch(loaded, grown.index, kept.info.dimensions, told, kept, by))
        attributor = Attributor(loaded, grown.index, embedder, executor=sweeps)
        whole = _with_null(attributor, grown, source, Asked(null, null_pictures), tell)
    grown = replace(grown, index=_told(loaded, grown, whole, read))
    more = len(grown.catalog.images) - opened.info.examples
    typer.echo(f"{to}: {more:,} images added; {summary(grown.put_in_place(), True)}")


def _with_null(attributor: Attributor, grown: Grown, source: Catalog, asked: Asked, tell: Telling) -> Index:
    """The larger index with a null of its own; raises InvalidRequest for lack of pictures."""
    from ..attribution.build_null import HeldOut, chosen_null, measure_null

    index, count = attributor.index, asked.count
    nulls = chosen_null(attributor, grown.catalog, asked.null, count, index.info.draw_seed) if count else None
    if nulls is None:
        return index
    if isinstance(nulls, HeldOut) and (absent := [name for name in nulls.ids if name not in source.by_id]):
        raise InvalidRequest(
            f"“{grown.before.folder.name}” takes held-out images for its null that are not in “{source.folder.name}”, "
            f"such as “{absent[0]}”. Add the folder that has all images, old and new, or name other pictures with "
            "--null FOLDER, or do without a null: --null-pictures 0."
        )
    return measure_null(attributor, attributor.default_method, nulls, partial(tell, "null pictures"))


def _told(model: PictureModel, grown: Grown, index: Index, read: TrainingFolder) -> Index:
    """The larger index with what is told of the smaller one, and of what was added."""
    from ..attribution.build_whole import about_of
    from ..index.about_file import read_about, tell_about

    about, before = about_of(model, replace(read, catalog=grown.catalog), index), read_about(grown.before.manifest)
    if before is not None:
        more = index.info.examples - grown.before.info.examples
        notes = (*before.notes, f"{more:,} images added from {read.name}, by {read.source}", *about.notes)
        about = replace(before, notes=notes, skipped=before.skipped + about.skipped, belongs=about.belongs)
    return tell_about(index, about)
