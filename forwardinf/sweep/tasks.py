"""Which examples are measured together: the same wherever a sweep runs.

The size of a batch can change the last bits of a loss. So it follows from the job and the index, and not from how many
threads or machines take part: then a job's results are the same to the bit on one kind of device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..types import LatentBatch
from .job import SweepJob

# Latent positions in a batch: on a CPU 256 latents of 8 × 8 or 4 of 64 × 64, elsewhere 16 times as many.
CPU_POSITIONS, GPU_POSITIONS = 2**14, 2**18


class Shards(Protocol):
    """The examples of an index, a shard at a time."""

    @property
    def ids(self) -> Sequence[tuple[str, ...]]:
        """The examples of each shard, in the order of its rows."""

    @property
    def positions(self) -> Sequence[int]:
        """Height × width of the latents of one example of each shard."""

    def read(self, shard: int) -> LatentBatch:
        """All examples of a shard; raises DamagedAsset where they are not what was indexed."""


@dataclass(frozen=True)
class Task:
    """Examples that are measured together for one job: rows of one shard."""

    shard: int
    rows: tuple[int, ...]
    example_ids: tuple[str, ...]


def tasks_of(job: SweepJob, shards: Shards) -> Iterator[Task]:
    """The tasks that a job is made of, in the order of the index."""
    only = None if job.round.example_ids is None else frozenset(job.round.example_ids)
    for number, (ids, positions) in enumerate(zip(shards.ids, shards.positions, strict=True)):
        size = examples_at_once(job.model.device, positions, len(job.round.draws))
        rows = [row for row, example_id in enumerate(ids) if only is None or example_id in only]
        for start in range(0, len(rows), size):
            part = tuple(rows[start : start + size])
            yield Task(number, part, tuple(ids[row] for row in part))


def examples_at_once(device: str, positions: int, forwards: int, latents: int | None = None) -> int:
    """How many examples, of so many `forwards` each, are measured together: at least one.

    `latents` is how many latents a batch holds, that is examples times forwards: by default as many of `positions`
    (height × width) as take a CPU a second or two, or as keep a GPU busy.
    """
    usual = (CPU_POSITIONS if device == "cpu" else GPU_POSITIONS) // positions
    return max(1, (latents or usual) // max(1, forwards))
