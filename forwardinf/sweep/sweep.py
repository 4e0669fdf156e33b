"""The sweep: what a method measures of every training image, a batch at a time; mostly one forward per draw."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import torch

from ..draws import DrawPlan
from ..models.protocol import predicting
from ..types import LatentBatch

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel

MAX_HALVINGS, MAX_WORKERS = 3, 8
# Of a batch's latents together: on a CPU 256 latents of 8 × 8 or 4 of 64 × 64, elsewhere 16 times as many.
CPU_POSITIONS, GPU_POSITIONS = 2**14, 2**18


@dataclass(frozen=True)
class SweepProgress:
    """Where a sweep stands after a batch, and what was measured of that batch."""

    done: int
    total: int
    rate: float  # images per second
    seconds_left: float
    example_ids: tuple[str, ...]
    measured: Tensor  # [b ...] float32


@torch.inference_mode()
def losses_of(model: AttributableModel, batch: LatentBatch, plan: DrawPlan) -> Tensor:
    """Float32 losses `[b d]` of a batch at its plan's draws, on the CPU."""
    return model.loss(batch, plan.draws(batch.example_ids, batch.latents.shape[1:])).float().cpu()


@torch.inference_mode()
def losses_and_sizes_of(model: AttributableModel, batch: LatentBatch, plan: DrawPlan) -> Tensor:
    """The same, and behind them the mean squares of the model's predictions, `[b 2d]`."""
    parts = predicting(model).loss_and_size(batch, plan.draws(batch.example_ids, batch.latents.shape[1:]))
    return torch.cat(parts, dim=1).float().cpu()


def sweep(
    model: AttributableModel,
    shards: Iterable[LatentBatch],
    plan: DrawPlan,
    total: int,
    batch_size: int | None = None,
    measure: Callable[[AttributableModel, LatentBatch, DrawPlan], Tensor] = losses_of,
) -> Iterator[SweepProgress]:
    """What `measure` says of every example of `shards` under the model as it is now, a batch at a time.

    `batch_size` counts latents, that is examples times draws: by default as many as take a CPU a second or two, or as
    keep a GPU busy. It is halved on running out of memory, at most three times. What is measured depends on neither.
    Closing the iterator stops the sweep.

    On a CPU as many batches are measured at once as torch has threads, up to 8, each by its share of them: threads that
    share a batch wait for each other after every layer, all the more where something else runs on the machine.
    """
    start, done, halvings = time.perf_counter(), 0, 0
    on_cpu = model.spec.device == "cpu"

    def examples(latents: Tensor) -> int:
        usual = (CPU_POSITIONS if on_cpu else GPU_POSITIONS) // latents[0, 0].numel()
        return max(1, (batch_size or usual) // len(plan.taken) >> halvings)

    with _Workers(min(torch.get_num_threads(), MAX_WORKERS) if on_cpu else 1) as workers:
        waiting = _in_parts(shards, examples)
        pending: deque[tuple[LatentBatch, Future[Tensor]]] = deque()
        while True:
            for batch in islice(waiting, workers.ahead - len(pending)):
                pending.append((batch, workers.submit(measure, model, batch, plan)))
            if not pending:
                return
            batch, future = pending.popleft()
            try:
                measured = future.result()
            except torch.OutOfMemoryError as error:
                traceback.clear_frames(error.__traceback__)  # which hold on to all that the failed forward had made
                if halvings == MAX_HALVINGS or len(batch.example_ids) == 1:
                    raise
                halvings += 1
                again = [batch, *(other for other, _ in pending)]
                wait([future for _, future in pending])
                pending.clear()
                waiting = chain(_in_parts(again, examples), waiting)
                continue
            done += len(batch.example_ids)
            rate = done / max(time.perf_counter() - start, 1e-9)
            yield SweepProgress(done, total, rate, (total - done) / rate, batch.example_ids, measured)


def _in_parts(batches: Iterable[LatentBatch], size: Callable[[Tensor], int]) -> Iterator[LatentBatch]:
    """Batches cut into parts of as many examples as `size` says of their latents; it may change between two of them."""
    for batch in batches:
        position = 0
        while position < len(batch.example_ids):
            part = part_of(batch, position, position + size(batch.latents))
            position += len(part.example_ids)
            yield part


class _Workers:
    """Threads that share torch's own; a single one is the caller's, which has all of them and does not work ahead."""

    def __init__(self, count: int) -> None:
        self.ahead = count + 1 if count > 1 else 1  # batches to have under way or waiting
        self._threads = torch.get_num_threads()
        share = (self._threads // count,)
        self._pool = ThreadPoolExecutor(count, "forwardinf-sweep", torch.set_num_threads, share) if count > 1 else None

    def __enter__(self) -> _Workers:
        return self

    def submit(self, work: Callable[..., Tensor], *arguments: object) -> Future[Tensor]:
        if self._pool:
            return self._pool.submit(work, *arguments)
        future: Future[Tensor] = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def __exit__(self, *_: object) -> None:
        """Wait for what is under way, and drop the rest; nothing touches the model after this."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._threads)  # else threads that start later would have but a share as well


def part_of(batch: LatentBatch, start: int, stop: int) -> LatentBatch:
    return LatentBatch(batch.example_ids[start:stop], batch.latents[start:stop], batch.conditioning[start:stop])
