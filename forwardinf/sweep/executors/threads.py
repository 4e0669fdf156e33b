"""A sweep in this process, on its model and with its threads."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import torch

from ...stopping import check
from ...types import LatentBatch
from ..job import SweepJob
from ..journal import TaskJournal
from ..parts import Parts
from ..rounds import Measured
from ..tasks import examples_at_once

if TYPE_CHECKING:
    from torch import Tensor

    from ...models.protocol import AttributableModel

MAX_WORKERS = 8
Batches = Callable[["tuple[str, ...] | None"], Iterable[LatentBatch]]


@dataclass(frozen=True)
class ThreadExecutor:
    """Runs jobs one after another under `model`, over the batches that `batches` reads from the index."""

    model: AttributableModel
    batches: Batches  # of these examples, or of all
    batch_size: int | None = None  # see `measured_by_batch`

    def run(self, jobs: Iterable[SweepJob], journal: TaskJournal | None = None) -> Generator[Measured, None, None]:
        jobs = tuple(jobs)
        for job, kept in zip(jobs, journal.of(jobs) if journal else [None] * len(jobs), strict=True):
            measure: Callable[[LatentBatch], Tensor] = partial(job.measure, self.model)
            with self.model.with_deltas(dict(job.round.deltas)):
                found = measured_by_batch(
                    self.model,
                    self.batches(job.round.example_ids),
                    len(job.round.draws),
                    kept.remembering(measure) if kept else measure,
                    self.batch_size,
                )
                for batch, values in found:
                    yield job.found(batch.example_ids, values)


def measured_by_batch(
    model: AttributableModel,
    batches: Iterable[LatentBatch],
    per_example: int,
    measure: Callable[[LatentBatch], Tensor],
    batch_size: int | None = None,
) -> Iterator[tuple[LatentBatch, Tensor]]:
    """What `measure` says of every example under the model as it is now, a batch at a time, in order.

    Batches have as many examples as `examples_at_once` says, with `per_example` forwards of each and `batch_size`
    latents together. Where memory runs out, a batch is measured in parts.

    On a CPU as many batches are measured at once as torch has threads, up to 8, each with its share of them: threads
    that share a batch wait for each other after every layer, all the more where other programs run on the machine.
    """
    on_cpu, parts = model.spec.device == "cpu", Parts(sys.maxsize)

    def examples(latents: Tensor) -> int:
        return examples_at_once(model.spec.device, latents[0, 0].numel(), per_example, batch_size)

    def measured(batch: LatentBatch) -> Tensor:
        found = parts.over(len(batch.example_ids), lambda part: measure(batch.rows(part.start, part.stop)))
        return torch.cat([values for _, values in found])

    with _Workers(min(torch.get_num_threads(), MAX_WORKERS) if on_cpu else 1) as workers:
        waiting = _in_parts(batches, examples)
        pending: deque[tuple[LatentBatch, Future[Tensor]]] = deque()
        while True:
            check()
            for batch in islice(waiting, workers.ahead - len(pending)):
                pending.append((batch, workers.submit(partial(measured, batch))))
            if not pending:
                return
            batch, future = pending.popleft()
            yield batch, future.result()


def _in_parts(batches: Iterable[LatentBatch], size: Callable[[Tensor], int]) -> Iterator[LatentBatch]:
    """Batches cut into parts of as many examples as `size` says of their latents."""
    for batch in batches:
        position = 0
        while position < len(batch.example_ids):
            part = batch.rows(position, position + size(batch.latents))
            position += len(part.example_ids)
            yield part


class _Workers:
    """Threads that share torch's threads; a single worker is the caller's thread and does not work ahead."""

    def __init__(self, count: int) -> None:
        self.ahead = count + 1 if count > 1 else 1  # batches under way or waiting
        self._threads = torch.get_num_threads()
        share = (self._threads // count,)
        self._pool = ThreadPoolExecutor(count, "forwardinf-sweep", torch.set_num_threads, share) if count > 1 else None

    def __enter__(self) -> _Workers:
        return self

    def submit(self, work: Callable[[], Tensor]) -> Future[Tensor]:
        if self._pool:
            return self._pool.submit(copy_context().run, work)  # so that it heeds a stop
        future: Future[Tensor] = Future()
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)
        return future

    def __exit__(self, *_: object) -> None:
        """Wait for what is under way and drop the rest; nothing touches the model after this."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._threads)  # otherwise threads started later would have only a share
