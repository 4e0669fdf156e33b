"""DAS: how much leaving an image out of training would change what the model predicts for the query.

Lin et al. 2024, "Diffusion Attribution Score" (arXiv 2410.18639), compare the predictions of the model and of the model
without an image, rather than losses, and estimate them with one Newton step on the squared error:

    score(z) = (φ(query)ᵀ (ΦᵀΦ + λI)⁻¹ φ(z) · r(z))²,    φ(z) = P ∇ mean over draws of mean|ε̂|

where ε̂ is what the network predicts, whatever its target, and r(z) is its error on the image: the mean over draws of
the root of the loss, from the index's base losses. P, λ, the rows of Φ and the cost are as in TRAK.

This is a simplified form. The paper's Jacobian of ε̂ becomes the gradient of one number, its mean magnitude, so r(z) is
one number as well; gradients are averaged over draws before they are multiplied; the factor 1/(1 − leverage) for
leaving out an image is taken as 1; gradients and errors are not normalised. The square is the paper's divergence of
predictions, which counts a change in either direction; `squared=false` keeps the sign. Of three dampings with the
square and two without, 1 with it did best on the lab's choosing part (`study tune`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ..gradients.per_example import Objective
from ..models.protocol import predicting
from ..scoring.score import Changes
from ..sweep.table import Table
from ..types import Draws, LatentBatch
from . import settings
from .trak import Trak, TrakState

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel


Squared = Annotated[bool, Field(description="count a change of the prediction by its square, whichever way it goes")]


class Das(Trak):
    """The method; its fields are the settings of TRAK, and whether the sign of a change is left out."""

    damping: settings.Damping = 1.0
    squared: Squared = True

    def changes(self, state: TrakState, table: Table) -> Changes:
        """TRAK's kernel times each image's error; one figure for all draws, so no standard error."""
        kernel = super().changes(state, table)
        change = kernel.per_draw * table.known("gradient").base_losses.sqrt().mean(dim=1, keepdim=True)  # [n 1]
        return Changes(kernel.example_ids, change.square() if self.squared else change)

    def objective(self, model: AttributableModel) -> Objective:
        """Mean magnitude of the prediction, `[b d]`."""

        known = predicting(model)

        def magnitude(batch: LatentBatch, draws: Draws) -> Tensor:
            return known.prediction(batch, draws).abs().flatten(2).mean(dim=2)

        return magnitude


METHOD = Das
