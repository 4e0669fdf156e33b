"""DAS: by how much leaving an image out of training would change what the model predicts for the query.

Lin et al. 2024, "Diffusion Attribution Score" (arXiv 2410.18639), compare the predictions of the model and of the model
without an image, rather than losses, and estimate them with one Newton step on the squared error:

    score(z) = (φ(query)ᵀ (ΦᵀΦ + λI)⁻¹ φ(z) · r(z))²,    φ(z) = P ∇ mean over draws of mean|ε̂|

where ε̂ is what the network predicts, whatever its target, and r(z) is the error that it makes on the image: the mean
over draws of the root of the loss, from the index's base losses. P, λ, the rows of Φ and the cost are TRAK's.

This is a simplified form. The paper's Jacobian of ε̂ becomes the gradient of one number, its mean magnitude, so r(z) is
one number as well; the gradients are averaged over draws before they are multiplied; the factor 1/(1 − leverage) of
leaving out an image is taken as 1; gradients and errors are not normalised. The square is the paper's divergence of
predictions, which counts a change either way; `squared=false` tells the ways apart. Of three dampings with it and two
without, 1 with it did best on the lab's queries for choosing (`study tune`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..gradients.per_example import Objective
from ..models.protocol import predicting
from ..types import Draws, InfluenceScores, LatentBatch, SweepLosses
from .trak import Trak, TrakState

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel


@dataclass(frozen=True)
class Das(Trak):
    """Settings of the method: those of TRAK, and whether the sign of a change is left out."""

    damping: float = 1
    squared: bool = True

    def scores(self, state: TrakState, losses: SweepLosses) -> InfluenceScores:
        """TRAK's kernel times each image's error; one figure for all draws, so no standard error."""
        errors = losses.base.sqrt().mean(dim=1, keepdim=True)
        change = super().scores(state, losses).per_draw * errors  # [n 1]
        return InfluenceScores.over(losses.example_ids, change.square() if self.squared else change)

    def objective(self, model: AttributableModel) -> Objective:
        """Mean magnitude of the prediction, `[b d]`."""

        known = predicting(model)

        def magnitude(batch: LatentBatch, draws: Draws) -> Tensor:
            return known.prediction(batch, draws).abs().flatten(2).mean(dim=2)

        return magnitude


METHOD = Das
