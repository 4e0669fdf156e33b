"""What a move of the weights will do to the size of the prediction for each image, foreseen without a forward.

The size at the noisiest draw is almost linear in a small move, so its change is the inner product of the move with what
the index kept of each image (gradients/whitening.py).
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from ..scoring.null import NullDistribution

if TYPE_CHECKING:
    from torch import Tensor

    from ..index.null_file import NullChanges
    from ..index.sketch_file import Sketches
    from ..index.store import Index

ORDERED = 20_000  # images ordered by their z-score, of those that the move changes most
POPULATION = 4096  # random training images that say what is usual


class SizeChanges(ABC):
    """How a move of the weights changes the root of the size of the prediction for the images of an index."""

    index: Index

    @abstractmethod
    def changes(self, example_ids: Sequence[str]) -> Tensor:
        """The changes of these images, `[b]`."""

    @abstractmethod
    def order(self, null: NullChanges | None) -> list[str]:
        """Training images by the z-score of their change, the highest first."""

    @cached_property
    def population(self) -> Tensor:
        """The changes of the training images, or of a random sample of them, `[p]`."""
        trained = sorted(self.index.trained)
        return self.changes(random.Random(0).sample(trained, min(POPULATION, len(trained))))

    def _ordered(self, rows: Tensor, changes: Tensor, null: NullChanges | None, draws: int) -> list[str]:
        """The training images among these rows with their `changes`; the last `draws` of the plan measure sizes."""
        z = ((changes - self.population.mean()) / self.population.std().clamp(min=1e-12)).clamp(min=0)[:, None]
        ids = [self.index.catalog.images[row].id for row in rows.tolist()]
        if null is not None:
            columns = null.per_draw[:, rows, -draws:].mean(dim=2, keepdim=True)
            z = NullDistribution.of(ids, columns).z_scores(ids, z)
        best = z[:, 0].argsort(descending=True, stable=True).tolist()
        return [ids[i] for i in best if ids[i] in self.index.trained]


@dataclass(frozen=True)
class Foresight(SizeChanges):
    """As foreseen, under a move given as its sketch."""

    index: Index
    sketches: Sketches
    move: Tensor  # [dimensions]

    def changes(self, example_ids: Sequence[str]) -> Tensor:
        """The changes of the root of the size that are foreseen for these images, `[b]`."""
        rows = self.index.catalog.numbers
        return self.sketches.products(self.move, torch.tensor([rows[i] for i in example_ids], dtype=torch.long))

    def order(self, null: NullChanges | None) -> list[str]:
        """Those that the move changes most."""
        rows, changes = self.sketches.highest(self.move, ORDERED)
        return self._ordered(rows, changes, null, len(self.sketches.info.draws))
