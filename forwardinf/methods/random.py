"""Random: the order that knows nothing, for other methods to be better than.

score(z) is uniform in [0, 1), a function of the seed, the query's picture and the example's id. Costs nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..draws import DrawPlan
from ..types import InfluenceScores, LatentBatch, Query, SweepLosses
from .protocol import TrainingSet, Unmoved

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel


@dataclass(frozen=True)
class RandomState(Unmoved):
    key: str


@dataclass(frozen=True)
class Random:
    """Settings of the method."""

    seed: int = 0

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> RandomState:
        return RandomState(f"{self.seed}/{query.sha256}")

    def measure(self, model: AttributableModel, state: RandomState, batch: LatentBatch, plan: DrawPlan) -> Tensor:
        """Uniform numbers `[b 1]`."""
        return torch.tensor([[_uniform(f"{state.key}/{example_id}")] for example_id in batch.example_ids])

    def scores(self, state: RandomState, losses: SweepLosses) -> InfluenceScores:
        """One figure for all draws of an example, so no standard error."""
        return InfluenceScores.over(losses.example_ids, losses.measured)


METHOD = Random


def _uniform(key: str) -> float:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=3).digest(), "big") / 2**24  # exact in float32
