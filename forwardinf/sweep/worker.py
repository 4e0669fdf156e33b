"""What does the tasks of a sweep in another process, for executors that have such workers."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch

from ..types import LatentBatch, ModelSpec
from .executors.threads import measured_by_batch
from .job import IndexRef, SweepJob
from .tasks import Shards, Task

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel


class Opener(Protocol):
    """Opens what a job names, on any machine that has it; can be pickled."""

    def model(self, spec: ModelSpec, index: IndexRef) -> AttributableModel:
        """The model; raises IndexMismatch where it is not the one that the index was made with."""

    def shards(self, index: IndexRef) -> Shards:
        """The index's examples; raises IndexMismatch where its folder holds another index."""


class SweepWorker:
    """Holds the model, moved as the last task asked for, and the shard that was read last."""

    def __init__(self, opener: Opener) -> None:
        self._opener, self._shards = opener, LastShards(opener)
        self._model: tuple[tuple[ModelSpec, IndexRef], AttributableModel] | None = None
        self._batch: tuple[tuple[IndexRef, int], LatentBatch] | None = None
        self._job: SweepJob | None = None  # whose weights are in the model
        self._moved = ExitStack()

    def measure(self, job: SweepJob, task: Task) -> Tensor:
        """What a task takes from its examples, `[b columns ...]` in float32 on the CPU.

        The weights stay moved for the next task of the same job, until `rest`.
        """
        model = self._opened(job)
        if self._job is not job:
            self.rest()
            weights = model.tunable_parameters()
            deltas = {name: delta.to(weights[name].device) for name, delta in job.round.deltas.items()}
            self._moved.enter_context(model.with_deltas(deltas))
            self._job = job
        batch = self._examples(job.index, task)
        found = measured_by_batch(model, [batch], len(job.round.draws), partial(job.measure, model))
        return torch.cat([values for _, values in found])

    def rest(self) -> None:
        """Restore the model's weights."""
        self._moved.close()
        self._job = None

    def _opened(self, job: SweepJob) -> AttributableModel:
        wanted = job.model, job.index
        if self._model is None or self._model[0] != wanted:
            self.rest()
            self._model = None  # there may be no room for two
            self._model = wanted, self._opener.model(*wanted)
        return self._model[1]

    def _examples(self, index: IndexRef, task: Task) -> LatentBatch:
        wanted = index, task.shard
        if self._batch is None or self._batch[0] != wanted:
            self._batch = wanted, self._shards.of(index).read(task.shard)
        return self._batch[1].at(task.rows)


class LastShards:
    """The shards of the index that was opened last."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._opened: tuple[IndexRef, Shards] | None = None

    def of(self, index: IndexRef) -> Shards:
        """Those of `index`; raises what the opener does."""
        if self._opened is None or self._opened[0] != index:
            self._opened = index, self._opener.shards(index)
        return self._opened[1]
