"""TRAK: gradients that agree once what all training images have in common is divided out.

Park et al. 2023 (arXiv 2303.14186) with one model and no weights on the images, as Zheng et al. 2024 (arXiv 2311.00500)
apply it to diffusion:

    score(z) = φ(query)ᵀ (ΦᵀΦ + λI)⁻¹ φ(z),    φ(z) = P ∇ mean over draws of ℓ(z, draw)

The rows of Φ [n k] are the φ of the swept images that the model was trained on: of all of them, unless only a part of
the index is swept. P projects the gradient to k `dimensions` at random (a count sketch, keyed by `seed`); λ is
`damping` times the mean of the eigenvalues of ΦᵀΦ that are not zero by its rank. Of 0.01, 0.1, 1 and 10 the last did
best on the lab's queries for choosing (`study tune`); four times as many draws of the query changed little.

Cost: one forward and one backward over all draws of the query, and of every training image; the latter once for all
queries where the Attributor has a cache folder, which then takes 4·k bytes per image. One solve of the size of the
smaller of n and k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..draws import DrawPlan
from ..errors import InvalidRequest
from ..gradients.per_example import KeptByExample, Objective, gradient
from ..gradients.sketch import Sketch, sketch
from ..types import Draws, InfluenceScores, LatentBatch, Query, SweepLosses
from .protocol import TrainingSet, Unmoved
from .registry import kept_file, settings_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel


@dataclass(frozen=True)
class TrakState(Unmoved):
    features: Tensor  # [k], the query's
    sketch: Sketch
    trained: frozenset[str]
    kept: KeptByExample


@dataclass(frozen=True)
class Trak:
    """Settings of the method; raises InvalidRequest where one is out of range."""

    dimensions: int = 4096
    damping: float = 10
    query_draws: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        if self.query_draws < 1 or self.dimensions < 1:
            raise InvalidRequest("The draws on the query and the dimensions must each be at least 1.")
        if not self.damping > 0:
            raise InvalidRequest(f"The damping is {self.damping}; it must be above 0.")

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> TrakState:
        """The query's projected gradient, and the cache of the training images'."""
        weights = sum(p.numel() for p in model.tunable_parameters().values())
        projection = sketch(weights, self.dimensions, self.seed)
        draws = DrawPlan(self.seed, self.query_draws).draws([query.id], query.latents.shape[1:])
        features = projection.project(gradient(model, self.objective(model), query.batch(), draws))
        file = kept_file(training_set, model, settings_of(self)["name"], self.dimensions, self.seed)
        kept = KeptByExample.of(file, training_set.ids, self.dimensions)
        return TrakState(features, projection, training_set.trained, kept)

    def measure(self, model: AttributableModel, state: TrakState, batch: LatentBatch, plan: DrawPlan) -> Tensor:
        """Projected gradients `[b k]`."""

        def projected(example: LatentBatch, draws: Draws) -> Tensor:
            return state.sketch.project(gradient(model, self.objective(model), example, draws))

        return state.kept.measured(batch, plan, projected)

    def scores(self, state: TrakState, losses: SweepLosses) -> InfluenceScores:
        """One figure for all draws of an example, so no standard error."""
        trained = [i for i, example_id in enumerate(losses.example_ids) if example_id in state.trained]
        weights = kernel_weights(losses.measured[trained].double(), state.features.double(), self.damping)
        return InfluenceScores.over(losses.example_ids, (losses.measured.double() @ weights).float()[:, None])

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
