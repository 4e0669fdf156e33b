"""TracIn: how well a training image's gradient agrees with the query's; its relative, ReTrac, without their lengths.

Pruthi et al. 2020 (arXiv 2002.08484), for diffusion as Xie et al. 2024 (arXiv 2401.09031) have it, at the one
checkpoint at hand and without its learning rate, which is a factor common to all:

    score(z) = mean over draws of ⟨∇ℓ(z, draw), g⟩,    g = mean over the query's draws of ∇ℓ(query, draw)

`normalised` divides every gradient by its length first, the query's too, so that noise levels with large gradients do
not make an image influential on everything (ReTrac, from the latter).

No gradient of a training image is needed for that: ⟨∇ℓ(z), g⟩ is how fast ℓ(z) rises along g, and the weights are
moved along g and against it to see that, (ℓ(z; θ + εg) − ℓ(z; θ − εg)) ⁄ 2ε. Of the exact products this is off by less
than a thousandth, and many times as fast. Lengths do need the gradients, but not the query's.

Cost: a forward and a backward over all draws of the query, and one more for each draw if normalised; then two forwards
for every training image and draw. If normalised, also a forward and a backward for each, once for all queries where the
Attributor has a cache folder, which then takes 4 bytes per image and draw.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize

from ..draws import DrawPlan
from ..errors import InvalidRequest
from ..gradients.per_example import KeptByExample, by_draw, gradient
from ..sweep.sweep import losses_of
from ..types import Draws, InfluenceScores, LatentBatch, Query, SweepLosses
from .protocol import TrainingSet, Unmoved
from .registry import kept_file

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel

STEP = 0.01  # share of its loss that the query's rises by along g, at most: far above rounding, far below curvature


@dataclass(frozen=True)
class Lengths(Unmoved):
    """A round for the lengths of the training images' gradients."""

    kept: KeptByExample


@dataclass(frozen=True)
class TracInState:
    """Of a round along the query's gradient, or against it."""

    deltas: dict[str, Tensor]
    factor: float  # of the gradient
    then: TracInState | Lengths | None = None
    draws: None = field(default=None, init=False)


@dataclass(frozen=True)
class TracIn:
    """Settings of the method; raises InvalidRequest where one is out of range."""

    normalised: bool = False  # ReTrac
    query_draws: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        if self.query_draws < 1:
            raise InvalidRequest(f"The number of draws on the query is {self.query_draws}; it must be at least 1.")

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> TracInState:
        """The weights moved along the query's mean gradient, against it, and if normalised not at all.

        Raises InvalidRequest for a model of less than float32, in whose weights so small a step would be rounded away.
        """
        if model.spec.dtype != "float32":
            raise InvalidRequest(f"tracin needs a model in float32, and this one is in {model.spec.dtype}.")
        draws = DrawPlan(self.seed, self.query_draws).draws([query.id], query.latents.shape[1:])
        mean = along = gradient(model, model.loss, query.batch(), draws)
        lengths = None
        if self.normalised:
            directions = (gradient(model, model.loss, *one) for one in by_draw(query.batch(), draws))
            along = sum((normalize(own, dim=0) for own in directions), torch.zeros(())) / self.query_draws
            file = kept_file(training_set, model, "retrac")
            lengths = Lengths(KeptByExample.of(file, training_set.ids, training_set.plan.count))
        with torch.no_grad():
            loss = float(model.loss(query.batch(), draws).mean())
        factor = STEP * loss / max(float(mean.norm() * along.norm()), 1e-30)
        deltas = _named(factor * along, model)
        back = {name: -delta for name, delta in deltas.items()}
        return TracInState(deltas, factor, TracInState(back, factor, lengths))

    def measure(
        self, model: AttributableModel, state: TracInState | Lengths, batch: LatentBatch, plan: DrawPlan
    ) -> Tensor:
        """Losses `[b d]` under the moved weights; of the last round the lengths of the draws' gradients."""
        if isinstance(state, TracInState):
            return losses_of(model, batch, plan)

        def lengths(example: LatentBatch, draws: Draws) -> Tensor:
            return torch.stack([gradient(model, model.loss, *one).norm() for one in by_draw(example, draws)])

        return state.kept.measured(batch, plan, lengths)

    def scores(self, state: TracInState, losses: SweepLosses) -> InfluenceScores:
        """Before the rounds are over, as far as they say: by the rise along the gradient alone, and not normalised."""
        along, *more = losses.measured.split(losses.base.shape[1], dim=1)
        against, twice = (more[0], 2) if more else (losses.base, 1)
        agreements = (along - against) / (twice * state.factor)
        if len(more) > 1:
            agreements = agreements / more[1].clamp(min=1e-12)
        return InfluenceScores.over(losses.example_ids, agreements)


METHOD = TracIn


def _named(vector: Tensor, model: AttributableModel) -> dict[str, Tensor]:
    """A vector `[w]` over all tunable weights, by their names and shapes."""
    weights = model.tunable_parameters()
    parts = vector.split([p.numel() for p in weights.values()])
    return {name: part.view_as(p) for (name, p), part in zip(weights.items(), parts, strict=True)}
