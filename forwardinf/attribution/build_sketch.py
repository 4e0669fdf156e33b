"""The sketches of an index, made from what it holds: one backward for each image."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from ..files.identity import digest_of
from ..gradients.whitening import Whitening
from ..index.folder import writing_alone
from ..index.sketch_file import INFO, SKETCHES, Sketches, SketchInfo, write_sketches
from ..index.store import Index
from ..methods.forward_inf import ForwardInf
from ..models.protocol import AttributableModel
from ..sweep.executors.threads import measured_by_batch
from ..sweep.journal import JobJournal
from ..types import LatentBatch
from .attributor import DEFAULT_METHOD
from .training_set import batches_of

if TYPE_CHECKING:
    from torch import Tensor

MAKING = "sketch.partial"  # folder of an index, for those that are made so far
BATCH = 16  # images between two reports of progress; each has a backward of its own


def build_sketch(
    model: AttributableModel,
    index: Index,
    dimensions: int = SketchInfo.dimensions,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    known: Sketches | None = None,
    method: ForwardInf = DEFAULT_METHOD,
) -> Index:
    """Sketch every image of an index, at the draws at which `method` measures sizes.

    But those `known` of the first images, where these were made alike. Does nothing where the index has such sketches
    already; returns the index as it is then. Raises UnsupportedModel for a model without predictions, and for draws
    without one for sizes.
    """
    plan = index.info.plan
    draws = method.size_draws_at(plan)
    info = SketchInfo(draws, dimensions)
    if not draws or (index.sketches is not None and index.sketches.info == info):
        return index
    whitening, part = Whitening(index.fisher(), info.damping, info.dimensions, info.seed), plan.part(draws)

    journal = JobJournal(index.folder / MAKING / digest_of([index.measured_fingerprint, asdict(info)], 16))

    def measure(batch: LatentBatch) -> Tensor:
        return whitening.of_sizes(model, batch, part.draws(batch.example_ids, batch.latents.shape[1:]))

    remembered = journal.remembering(measure)

    def parts() -> Iterator[Tensor]:
        done = 0
        if known is not None and known.info == info:
            done = known.kept.ntotal
            starts = range(0, done, index.info.shard_size)
            yield from (torch.from_numpy(known.kept.reconstruct_n(n, min(starts.step, done - n))) for n in starts)
        rest = index if not done else index.part(image.id for image in index.catalog.images[done:])
        for batch, sketches in measured_by_batch(model, batches_of(rest), len(draws), remembered, BATCH * len(draws)):
            done += len(batch.example_ids)
            on_progress(done, index.info.examples)
            yield sketches

    with writing_alone(index.folder):
        index = index.without_files(INFO, SKETCHES)  # whole at every moment
        write_sketches(index.folder, info, parts())
        shutil.rmtree(journal.folder.parent, ignore_errors=True)
        return index.with_files(INFO, SKETCHES)
