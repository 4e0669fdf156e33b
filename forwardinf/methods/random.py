"""Random: an order that knows nothing, as the floor for other methods.

score(z) is uniform in [0, 1), a function of the seed, the query's picture and the example's id. Costs nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..scoring.score import Changes
from ..sweep.rounds import Round
from ..sweep.table import Table
from ..types import Draws, LatentBatch, Query
from . import settings
from .protocol import TrainingSet, Unmoved

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel


@dataclass(frozen=True)
class RandomState(Unmoved):
    key: str


class Random(settings.MethodSettings):
    """The method; its fields are its settings."""

    seed: settings.Seed = 0

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> RandomState:
        return RandomState(f"{self.seed}/{query.sha256}", rounds=(Round("random", (), one_figure=True),))

    def measure(
        self, model: AttributableModel, state: RandomState, one_round: Round, batch: LatentBatch, draws: Draws
    ) -> Tensor:
        """Uniform numbers `[b 1]`."""
        return torch.tensor([[_uniform(f"{state.key}/{example_id}")] for example_id in batch.example_ids])

    def changes(self, state: RandomState, table: Table) -> Changes:
        """One figure for all draws of an example, so no standard error."""
        known = table.known("random")
        return Changes(known.example_ids, known["random"])


METHOD = Random


def _uniform(key: str) -> float:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=3).digest(), "big") / 2**24  # exact in float32
