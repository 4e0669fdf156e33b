"""The sweep: what a method measures of every training image, a batch at a time; mostly one forward per draw."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .draws import DrawPlan
from .types import LatentBatch

if TYPE_CHECKING:
    from torch import Tensor

    from .models import AttributableModel

MAX_HALVINGS = 3


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


def sweep(
    model: AttributableModel,
    shards: Iterable[LatentBatch],
    plan: DrawPlan,
    total: int,
    batch_size: int = 64,
    measure: Callable[[AttributableModel, LatentBatch, DrawPlan], Tensor] = losses_of,
) -> Iterator[SweepProgress]:
    """What `measure` says of every example of `shards` under the model as it is now, a batch at a time.

    `batch_size` counts latents, that is examples times draws; it is halved on running out of memory, at most three
    times. What is measured depends on neither. Closing the iterator stops the sweep.
    """
    start, done, halvings = time.perf_counter(), 0, 0
    for shard in shards:
        position = 0
        while position < len(shard.example_ids):
            size = max(1, batch_size // plan.count)
            batch = part_of(shard, position, position + size)
            try:
                measured = measure(model, batch, plan)
            except torch.OutOfMemoryError:
                if halvings == MAX_HALVINGS or size == 1:
                    raise
                batch_size, halvings = batch_size // 2, halvings + 1
                continue
            position += len(batch.example_ids)
            done += len(batch.example_ids)
            rate = done / max(time.perf_counter() - start, 1e-9)
            yield SweepProgress(done, total, rate, (total - done) / rate, batch.example_ids, measured)


def part_of(batch: LatentBatch, start: int, stop: int) -> LatentBatch:
    return LatentBatch(batch.example_ids[start:stop], batch.latents[start:stop], batch.conditioning[start:stop])
