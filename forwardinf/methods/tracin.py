"""TracIn: how well a training image's gradient agrees with the query's; its relative, ReTrac, without their lengths.

Pruthi et al. 2020 (arXiv 2002.08484), for diffusion as Xie et al. 2024 (arXiv 2401.09031) have it, at the one
checkpoint at hand and without its learning rate, which is a factor common to all:

    score(z) = mean over draws of ⟨∇ℓ(z, draw), g⟩,    g = mean over the query's draws of ∇ℓ(query, draw)

`normalised` divides every gradient by its length first, the query's too, so that noise levels with large gradients do
not make an image influential on everything (ReTrac, from the latter).

Cost: a forward and a backward for each draw of the query, if normalised, and else one over all of them; then a forward
and a backward for every training image and draw, for each query anew. Nothing on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize

from ..draws import DrawPlan
from ..errors import InvalidRequest
from ..gradients import by_draw, gradient
from ..types import InfluenceScores, LatentBatch, Query, SweepLosses
from . import TrainingSet, Unmoved

if TYPE_CHECKING:
    from torch import Tensor

    from ..models import AttributableModel


@dataclass(frozen=True)
class TracInState(Unmoved):
    gradient: Tensor  # [w], the query's


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
        """The query's mean gradient."""
        draws = DrawPlan(self.seed, self.query_draws).draws([query.id], query.latents.shape[1:])
        if not self.normalised:
            return TracInState(gradient(model, model.loss, query.batch(), draws))
        total = torch.zeros(())
        for example, draw in by_draw(query.batch(), draws):
            total = total + normalize(gradient(model, model.loss, example, draw), dim=0)
        return TracInState(total / self.query_draws)

    def measure(self, model: AttributableModel, state: TracInState, batch: LatentBatch, plan: DrawPlan) -> Tensor:
        """Agreement `[b d]` of each draw's gradient with the query's."""
        draws = plan.draws(batch.example_ids, batch.latents.shape[1:])
        agreements = torch.empty(len(batch.example_ids) * plan.count)
        for i, (example, draw) in enumerate(by_draw(batch, draws)):
            own = gradient(model, model.loss, example, draw)
            agreements[i] = (normalize(own, dim=0) if self.normalised else own) @ state.gradient
        return agreements.view(-1, plan.count)

    def scores(self, state: TracInState, losses: SweepLosses) -> InfluenceScores:
        return InfluenceScores.over(losses.example_ids, losses.measured)


METHOD = TracIn
