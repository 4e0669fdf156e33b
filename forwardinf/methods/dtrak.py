"""D-TRAK: TRAK on the size of the model's prediction instead of its loss, which ranks diffusion models' images better.

Zheng et al. 2024 (arXiv 2311.00500): φ(z) = P ∇ mean over draws of mean(ε̂²), where ε̂ is what the network predicts,
whatever its target. All else, the cost too, is as in TRAK; of the same dampings 1 did best (`study tune`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..gradients.per_example import Objective
from ..models.protocol import predicting
from ..types import Draws, LatentBatch
from . import settings
from .trak import Trak

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel


class DTrak(Trak):
    """The method; its fields are the settings of TRAK."""

    damping: settings.Damping = 1.0

    def objective(self, model: AttributableModel) -> Objective:
        """Mean squared prediction, `[b d]`."""

        known = predicting(model)

        def squared(batch: LatentBatch, draws: Draws) -> Tensor:
            return known.prediction(batch, draws).square().flatten(2).mean(dim=2)

        return squared


METHOD = DTrak
