"""TracIn: the inner product of a training image's gradient with the query's; ReTrac: the same without their lengths.

Pruthi et al. 2020 (arXiv 2002.08484), for diffusion as in Xie et al. 2024 (arXiv 2401.09031), at a single checkpoint
and without its learning rate, which is a factor common to all images:

    score(z) = mean over draws of ⟨∇ℓ(z, draw), g⟩,    g = mean over the query's draws of ∇ℓ(query, draw)

`normalised` divides every gradient by its length first, the query's too, so that noise levels with large gradients do
not make an image influential on everything (ReTrac, Xie et al.).

This needs no gradient of a training image: ⟨∇ℓ(z), g⟩ is the slope of ℓ(z) along g, which a central difference gives,
(ℓ(z; θ + εg) − ℓ(z; θ − εg)) ⁄ 2ε. It is within a thousandth of the exact product, and many times as fast. Lengths do
need the gradients, but are the same for every query.

Cost: a forward and a backward over all draws of the query, and one more for each draw if normalised; then two forwards
for every training image and draw. If normalised, also a forward and a backward for each: once for all queries where the
Attributor has a cache folder, which then takes 4 bytes per image and draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch.nn.functional import normalize

from ..draws import DrawPlan
from ..errors import InvalidRequest
from ..gradients.per_example import KeptByExample, by_draw, gradient, mean_value
from ..scoring.score import Changes
from ..sweep.losses import losses
from ..sweep.rounds import Round
from ..sweep.table import Table
from ..types import Draws, LatentBatch, Query
from . import settings
from .protocol import TrainingSet, Unmoved
from .registry import kept_file

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel

STEP = 0.01  # share of its loss that the query's rises by along g, at most: far above rounding, far below curvature


Normalised = Annotated[bool, Field(description="divide every gradient by its length first (ReTrac)")]


@dataclass(frozen=True)
class TracInState(Unmoved):
    factor: float  # of the query's gradient, by which the weights are moved along it and against it
    lengths: KeptByExample | None  # of the training images' gradients, if normalised


class TracIn(settings.MethodSettings):
    """The method; its fields are its settings."""

    normalised: Normalised = False
    query_draws: settings.QueryDraws = 48
    seed: settings.Seed = 0

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> TracInState:
        """The weights moved along the query's mean gradient, against it, and if normalised not at all.

        Raises InvalidRequest for a model of less than float32, whose losses are too coarse for so small a step.
        """
        if model.spec.dtype != "float32":
            raise InvalidRequest(f"tracin needs a model in float32, and this one is in {model.spec.dtype}.")
        draws = DrawPlan(self.seed, self.query_draws).draws([query.id], query.latents.shape[1:])
        mean = along = gradient(model, model.loss, query.batch(), draws)
        if self.normalised:
            directions = (gradient(model, model.loss, *one) for one in by_draw(query.batch(), draws))
            along = sum((normalize(one, dim=0) for one in directions), torch.zeros(())) / self.query_draws
        loss = mean_value(model.loss, query.batch(), draws)
        factor = STEP * loss / max(float(mean.norm() * along.norm()), 1e-30)
        return self._state(model, training_set, factor, factor * along)

    def measure(
        self, model: AttributableModel, state: TracInState, one_round: Round, batch: LatentBatch, draws: Draws
    ) -> Tensor:
        """Losses `[b d]` under the moved weights, or the lengths of the draws' gradients `[b d]`."""
        if one_round.quantity != "length":
            return losses(model, batch, draws)

        def lengths(example: LatentBatch, its_draws: Draws) -> Tensor:
            return torch.stack([gradient(model, model.loss, *one).norm() for one in by_draw(example, its_draws)])

        assert state.lengths is not None
        return state.lengths.measured(batch, draws, lengths)

    def changes(self, state: TracInState, table: Table) -> Changes:
        """Before all rounds are done, as far as they go: from the rise along the gradient alone, not normalised."""
        known = table.known("along")
        both = known.has("against")
        against = known["against"] if both else known.base_losses_of("along")
        products = (known["along"] - against) / ((2 if both else 1) * state.factor)
        if known.has("length"):
            products = products / known["length"].clamp(min=1e-12)
        return Changes(known.example_ids, products)

    def _state(self, model: AttributableModel, training_set: TrainingSet, factor: float, step: Tensor) -> TracInState:
        draws = training_set.plan.taken
        forth = _named(step, model)
        back = {name: -delta for name, delta in forth.items()}
        rounds, lengths = [Round("along", draws, forth), Round("against", draws, back)], None
        if self.normalised:
            rounds.append(Round("length", draws))
            lengths = KeptByExample(kept_file(training_set, model, "retrac"), training_set.ids, len(draws))
        return TracInState(factor, lengths, rounds=tuple(rounds))


METHOD = TracIn


def _named(vector: Tensor, model: AttributableModel) -> dict[str, Tensor]:
    """A vector `[w]` over all tunable weights, by their names and shapes."""
    weights = model.tunable_parameters()
    parts = vector.split([p.numel() for p in weights.values()])
    return {name: part.view_as(p) for (name, p), part in zip(weights.items(), parts, strict=True)}
