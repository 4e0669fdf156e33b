"""Null distributions: how indexed images change under pictures that owe them nothing.

A few held-out pictures, from the half of them that is least like any training image, are run as queries when an index
is built. They tell two things. For each image: some images move whenever the model is touched at all, others hardly
ever do, so a query's change counts by its z-score against what the image showed under these pictures. For an answer as
a whole: to stand out, an image has to exceed the highest score that any image reaches under most of them
(confidence.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Multiples of the mean standard deviation added to each image's: a smaller one retrieves better, a larger one raises
# LDS; chosen on the choosing parts.
SHARED = 2
# Null pictures for a null distribution: without any one of them a standard deviation is still defined.
FEWEST_FOR_Z_SCORES = 3


@dataclass(frozen=True)
class NullDistribution:
    """Mean and standard deviation of each image's changes under the null pictures, draw by draw."""

    positions: dict[str, int]  # of example ids in what follows
    mean: Tensor  # [n d], μ_ik
    spread: Tensor  # [n d], σ_ik + SHARED · mean_j σ_jk of equation (3)

    @classmethod
    def of(cls, example_ids: Sequence[str], per_draw: Tensor) -> NullDistribution:
        """From changes `[m n d]` under m ≥ 2 null pictures.

        Few pictures estimate a standard deviation badly, and an image that hardly moved under any of them must not
        stand out because it moved a little now: so SHARED times the mean over the images is added to each.
        """
        deviation = per_draw.std(dim=0)
        positions = {example_id: i for i, example_id in enumerate(example_ids)}
        return cls(positions, per_draw.mean(dim=0), deviation + SHARED * deviation.mean(dim=0))

    def z_scores(self, example_ids: Sequence[str], per_draw: Tensor) -> Tensor:
        """(change − mean) / spread of these images, `[n d]`, at the first d draws that the distribution knows."""
        rows = [self.positions[example_id] for example_id in example_ids]
        known = slice(per_draw.shape[1])
        return (per_draw - self.mean[rows, known]) / self.spread[rows, known]
