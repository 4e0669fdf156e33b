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

    from ..index.null_file import NullChanges, NullSizes
    from ..index.sketch_file import Sketches
    from ..index.store import Index

ORDERED = 20_000  # images ordered by their z-score, of those that the move changes most
POPULATION = 4096  # random training images that say what is usual


class SizeChanges(ABC):
    """How a move of the weights changes the root of the size of the prediction for the images of an index."""

    index: Index

    @property
    @abstractmethod
    def draws(self) -> int:
        """How many draws of the plan, the last, measure sizes."""

    @abstractmethod
    def changes(self, example_ids: Sequence[str]) -> Tensor:
        """The changes of these images, `[b]`."""

    @abstractmethod
    def candidates(self) -> tuple[Tensor, Tensor]:
        """Rows of the images that are ordered, at least those that the move changes most, and their changes."""

    def order(self, null: NullChanges | NullSizes | None) -> list[str]:
        """Training images by the z-score of their change, the highest first."""
        rows, changes = self.candidates()
        best = self.z_scores(rows, changes, null).argsort(descending=True, stable=True).tolist()
        ids = [self.index.catalog.images[row].id for row in rows.tolist()]
        return [ids[i] for i in best if ids[i] in self.index.trained]

    def z_scores(self, rows: Tensor, changes: Tensor, null: NullChanges | NullSizes | None) -> Tensor:
        """Of the images in these rows with their changes, as the score has them, `[r]`; at least 0 without a null."""
        z = ((changes - self.population.mean()) / self.population.std().clamp(min=1e-12)).clamp(min=0)[:, None]
        if null is not None:
            ids = [self.index.catalog.images[row].id for row in rows.tolist()]
            columns = null.per_draw[:, rows, -self.draws :].mean(dim=2, keepdim=True)
            z = NullDistribution.of(ids, columns).z_scores(ids, z)
        return z[:, 0]

    @cached_property
    def population(self) -> Tensor:
        """The changes of the training images, or of a random sample of them, `[p]`."""
        trained = sorted(self.index.trained)
        return self.changes(random.Random(0).sample(trained, min(POPULATION, len(trained))))


@dataclass(frozen=True)
class Foresight(SizeChanges):
    """As foreseen, under a move given as its sketch."""

    index: Index
    sketches: Sketches
    move: Tensor  # [dimensions]

    @property
    def draws(self) -> int:
        return len(self.sketches.info.draws)

    def changes(self, example_ids: Sequence[str]) -> Tensor:
        """The changes of the root of the size that are foreseen for these images, `[b]`."""
        rows = self.index.catalog.numbers
        return self.sketches.products(self.move, torch.tensor([rows[i] for i in example_ids], dtype=torch.long))

    def candidates(self) -> tuple[Tensor, Tensor]:
        """Those that the move changes most."""
        return self.sketches.highest(self.move, ORDERED)
