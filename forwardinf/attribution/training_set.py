"""What methods and sweeps see of an index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..draws import DrawPlan
from ..index.store import Index
from ..types import LatentBatch

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..gradients.curvature import WeightCurvature


@dataclass(frozen=True)
class IndexedImages:
    """The TrainingSet that methods see: the whole of an index, even where a sweep visits only a part of it."""

    index: Index
    cache: Path | None
    similarities: Callable[[Image], Tensor]
    device: str = "cpu"  # where the model is

    @property
    def fingerprint(self) -> str:
        return self.index.measured_fingerprint

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(image.id for image in self.index.catalog.images)

    @property
    def trained(self) -> frozenset[str]:
        return self.index.trained

    @property
    def plan(self) -> DrawPlan:
        return self.index.info.plan

    @property
    def mean_latents(self) -> Tensor:
        return self.index.mean_latents

    def fisher(self) -> dict[str, Tensor]:
        return self.index.fisher(self.device)

    def kronecker(self) -> dict[str, WeightCurvature]:
        return self.index.kronecker(self.device)

    def examples(self, example_ids: Iterable[str]) -> LatentBatch:
        return self.index.examples(example_ids)


@dataclass(frozen=True)
class IndexShards:
    """The Shards that a sweep reads."""

    index: Index

    @property
    def ids(self) -> list[tuple[str, ...]]:
        return self.index.shard_ids

    @cached_property
    def positions(self) -> list[int]:
        return [height * width for _, height, width in self.index.latent_shapes]

    def read(self, shard: int) -> LatentBatch:
        return self.index.shard(shard).batch


def batches_of(index: Index, example_ids: tuple[str, ...] | None = None, device: str = "cpu") -> Iterator[LatentBatch]:
    """The examples that a sweep of the index visits, or these of them, a shard at a time in the index's order.

    For a CUDA device each is read and verified while the one before is measured; a CPU has no time to spare for it.
    """
    visited = index if example_ids is None else index.part(example_ids)
    batches = (shard.batch for shard in visited.shards())
    return _read_ahead(batches) if device.startswith("cuda") else batches


def _read_ahead(batches: Iterator[LatentBatch]) -> Iterator[LatentBatch]:
    with ThreadPoolExecutor(1, "forwardinf-read") as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


@dataclass(frozen=True)
class Held:
    """Examples that were read once, for the rounds of a sweep that visit them again and again."""

    batches: Sequence[LatentBatch]  # of one shape each

    def __call__(self, example_ids: tuple[str, ...] | None = None) -> list[LatentBatch]:
        """These of them, in their order."""
        if example_ids is None:
            return list(self.batches)
        wanted, found = frozenset(example_ids), list[LatentBatch]()
        for batch in self.batches:
            if rows := [row for row, example_id in enumerate(batch.example_ids) if example_id in wanted]:
                found.append(batch.at(rows))
        return found
