"""TRAK: the agreement of gradients once what all training images have in common is divided out.

Park et al. 2023 (arXiv 2303.14186) with one model and no weights on the images, as Zheng et al. 2024 (arXiv 2311.00500)
apply it to diffusion:

    score(z) = φ(query)ᵀ (ΦᵀΦ + λI)⁻¹ φ(z),    φ(z) = P ∇ mean over draws of ℓ(z, draw)

The rows of Φ [n k] are the φ of the swept images that the model was trained on: of all of them, unless only a part of
the index is swept. P projects the gradient to k `dimensions` at random (a count sketch, keyed by `seed`); λ is
`damping` times the mean of the eigenvalues of ΦᵀΦ that its rank leaves above 0. Of 0.01, 0.1, 1 and 10 the last did
best on the lab's choosing part (`study tune`); four times as many draws of the query changed little.

Cost: one forward and one backward over all draws of the query, and of every training image; the latter once for all
queries where the Attributor has a cache folder, which then takes 4·k bytes per image. One solve of the size of the
smaller of n and k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from ..draws import DrawPlan
from ..gradients.per_example import KeptByExample, Objective, gradient
from ..gradients.sketch import Sketch
from ..scoring.score import Changes
from ..sweep.rounds import Round
from ..sweep.table import Table
from ..types import Draws, LatentBatch, Query
from . import settings
from .protocol import TrainingSet, Unmoved
from .registry import kept_file

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel


Dimensions = Annotated[int, Field(ge=1, description="numbers that a gradient is projected to")]


@dataclass(frozen=True)
class TrakState(Unmoved):
    features: Tensor  # [k], the query's
    sketch: Sketch
    trained: frozenset[str]
    kept: KeptByExample


class Trak(settings.MethodSettings):
    """The method; its fields are its settings."""

    dimensions: Dimensions = 4096
    damping: settings.Damping = 10.0
    query_draws: settings.QueryDraws = 48
    seed: settings.Seed = 0

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> TrakState:
        """The query's projected gradient, and the cache of the training images'."""
        weights = sum(p.numel() for p in model.tunable_parameters().values())
        projection = Sketch(weights, self.dimensions, self.seed)
        draws = DrawPlan(self.seed, self.query_draws).draws([query.id], query.latents.shape[1:])
        features = projection.project(gradient(model, self.objective(model), query.batch(), draws))
        file = kept_file(training_set, model, self.method_name(), self.dimensions, self.seed)
        kept = KeptByExample(file, training_set.ids, self.dimensions)
        rounds = (Round("gradient", training_set.plan.taken, one_figure=True),)
        return TrakState(features, projection, training_set.trained, kept, rounds=rounds)

    def measure(
        self, model: AttributableModel, state: TrakState, one_round: Round, batch: LatentBatch, draws: Draws
    ) -> Tensor:
        """Projected gradients `[b 1 k]`, each of the mean over the draws."""

        def projected(example: LatentBatch, its_draws: Draws) -> Tensor:
            return state.sketch.project(gradient(model, self.objective(model), example, its_draws))

        return state.kept.measured(batch, draws, projected)[:, None]

    def changes(self, state: TrakState, table: Table) -> Changes:
        """One figure for all draws of an example, so no standard error."""
        known = table.known("gradient")
        features = known["gradient"][:, 0].double()
        trained = [i for i, example_id in enumerate(known.example_ids) if example_id in state.trained]
        weights = kernel_weights(features[trained], state.features.double(), self.damping)
        return Changes(known.example_ids, (features @ weights).float()[:, None])

    def objective(self, model: AttributableModel) -> Objective:
        """What is differentiated, `[b d]`."""
        return model.loss


METHOD = Trak


def kernel_weights(features: Tensor, query: Tensor, damping: float) -> Tensor:
    """(ΦᵀΦ + λI)⁻¹ φ `[k]` from Φ `[n k]` and φ `[k]`, by whichever of the two Gram matrices is smaller (Woodbury)."""
    n, k = features.shape
    damped = damping * float(features.square().sum()) / max(1, min(n, k)) + 1e-30
    if n < k:
        gram = features @ features.T + damped * torch.eye(n, dtype=features.dtype)
        return (query - features.T @ torch.linalg.solve(gram, features @ query)) / damped
    gram = features.T @ features + damped * torch.eye(k, dtype=features.dtype)
    return torch.linalg.solve(gram, query)
