"""A training set to an index that answers can be had from: latents and losses, sketches, the null, what is told of it.

Used on the command line and by the app; resumes where it was interrupted, in whichever stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..embedders.registry import load_embedder
from ..examples.belonging import Comparison, compared
from ..index.about_file import About, tell_about
from ..index.build import BuildPlan, OnProgress, build_index
from ..methods.steady import Steady
from ..models.adapter_file import read_adapter
from .attributor import Attributor
from .build_null import QUERIES, chosen_null, measure_null
from .build_sketch import build_sketch
from .membership import in_words, membership_in
from .size_null import measure_size_null

if TYPE_CHECKING:
    from ..examples.metadata import TrainingFolder
    from ..index.store import Index
    from ..models.protocol import PictureModel
    from ..sweep.job import Executor

SKETCH_STAGE, NULL_STAGE = "sketches", "null pictures"


@dataclass(frozen=True)
class WholePlan:
    """How an index is made, with all that belongs to it."""

    index: BuildPlan = field(default_factory=BuildPlan)
    sketch: bool = True
    null: str = ""  # as `chosen_null` has it
    null_pictures: int = QUERIES  # 0 for none


def build_whole(
    model: PictureModel,
    read: TrainingFolder,
    out: Path,
    plan: WholePlan,
    on_progress: OnProgress,
    sweeps: Executor | None = None,
) -> Index:
    """The index of a training set as it was read; raises what `build_index` raises, and `chosen_null`."""
    source = read.catalog
    index = build_index(model, source, out, plan.index, on_progress)
    attributor = Attributor(model, index, load_embedder(plan.index.embedder, model), executor=sweeps)
    by, nulls = attributor.default_method, None
    if plan.null_pictures:
        nulls = chosen_null(attributor, source, plan.null, plan.null_pictures, plan.index.seed)
    if nulls and isinstance(by, Steady):
        index = measure_size_null(attributor, by, nulls, on_progress, sketch=plan.sketch)
        return tell_about(index, about_of(model, read, index))
    if plan.sketch:
        index = build_sketch(model, index, on_progress=partial(on_progress, SKETCH_STAGE), method=by)
    if nulls:
        index = measure_null(replace(attributor, index=index), by, nulls, partial(on_progress, NULL_STAGE))
    return tell_about(index, about_of(model, read, index))


def about_of(model: PictureModel, read: TrainingFolder, index: Index) -> About:
    """How an index of a training set as it was read came about."""
    adapter = model.spec.adapter
    return About(
        read_from=read.name,
        layout=read.source,
        notes=read.notes,
        skipped=read.skipped,
        picture_size=model.picture_size,
        family=model.family,
        adapter=adapter.name if adapter else None,
        belongs=tuple(_belonging(model, read, index)),
    )


def _belonging(model: PictureModel, read: TrainingFolder, index: Index) -> Iterator[Comparison]:
    """What the adapter states, and what errors say where pictures were held out."""
    spec = model.spec
    if spec.adapter:
        yield from compared(read_adapter(spec.adapter.file).metadata, read.catalog, Path(spec.checkpoint), spec.flip)
    if found := membership_in(index):
        yield in_words(found)
