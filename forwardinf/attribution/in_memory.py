"""Attribution over examples that are held in memory, for a model that has no index: a classifier, a language model.

training_set = InMemory.of(model, batch)
scores = training_set.attribute(query_of(other), Plain())

What a method sees, measures and makes of it is the same as for an index. There is no null distribution.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..draws import DrawPlan
from ..errors import InvalidRequest, UnsupportedModel
from ..gradients.curvature import WeightCurvature, diagonal_fisher, kronecker_fisher
from ..methods.protocol import AttributionMethod
from ..models.protocol import AttributableModel, PredictingModel
from ..scoring.score import score
from ..sweep.executors.threads import ThreadExecutor, measured_by_batch
from ..sweep.job import IndexRef, SweepJob
from ..sweep.losses import losses, losses_and_sizes
from ..sweep.table import Table
from ..types import InfluenceScores, LatentBatch, Query
from .training_set import Held

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

LEAST_LOSS = 5e-3
SMALLEST_RADIUS, GROWTH, LARGEST_RADIUS = 0.05, 1.1, 10.0  # in lengths of the query
ONE_DRAW = DrawPlan(seed=0, count=1, shared=True)  # enough where a loss does not depend on noise


@dataclass(frozen=True, eq=False)
class InMemory:
    """Examples that a model was trained on, with their losses; the TrainingSet that methods see."""

    model: AttributableModel
    batch: LatentBatch
    plan: DrawPlan
    base_losses: Tensor  # [n d]
    base_sizes: Tensor  # [n d]; zeros for a model without a prediction whose size could be measured
    cache: Path | None = None

    @classmethod
    def of(cls, model: AttributableModel, batch: LatentBatch, plan: DrawPlan = ONE_DRAW) -> InMemory:
        """Take the base losses. Raises InvalidRequest for ids that are not unique, or a loss that is not finite."""
        if len(set(batch.example_ids)) < len(batch.example_ids):
            raise InvalidRequest("Two examples have the same id, so a score could not be told to be of either.")
        sizes = isinstance(model, PredictingModel)

        def measure(part: LatentBatch) -> Tensor:
            draws = plan.draws(part.example_ids, part.latents.shape[1:], model.spec.device)
            if sizes:
                return torch.stack(losses_and_sizes(model, part, draws), dim=-1)
            return losses(model, part, draws)[..., None].expand(-1, -1, 2)

        found = torch.cat([values for _, values in measured_by_batch(model, [batch], plan.count, measure)])
        bad = (~found.isfinite()).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        if bad:
            raise InvalidRequest(
                f"The loss on “{batch.example_ids[bad[0]]}” is not finite ({len(bad)} of {len(found)}). Mend it."
            )
        return cls(model, batch, plan, found[..., 0], found[..., 1] if sizes else torch.zeros_like(found[..., 0]))

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256("\n".join((self.model.fingerprint, repr(self.plan), *self.ids)).encode())
        digest.update(self.base_losses.numpy().tobytes())
        return digest.hexdigest()

    @property
    def ids(self) -> tuple[str, ...]:
        return self.batch.example_ids

    @property
    def trained(self) -> frozenset[str]:
        return frozenset(self.ids)

    @cached_property
    def mean_latents(self) -> Tensor:
        return self.batch.latents.float().mean(dim=0)

    def fisher(self) -> dict[str, Tensor]:
        return self._fisher

    @cached_property
    def _fisher(self) -> dict[str, Tensor]:
        return diagonal_fisher(self.model, [self.batch], self.plan)

    def kronecker(self) -> dict[str, WeightCurvature]:
        return self._kronecker

    @cached_property
    def _kronecker(self) -> dict[str, WeightCurvature]:
        return kronecker_fisher(self.model, [self.batch], self.plan)

    def examples(self, example_ids: Iterable[str]) -> LatentBatch:
        (found,) = Held([self.batch])(tuple(example_ids))
        return found

    def similarities(self, picture: Image) -> Tensor:
        raise UnsupportedModel("These examples have no embeddings, so how similar they look is not known.")

    def attribute(self, query: Query, method: AttributionMethod) -> InfluenceScores:
        """The influence of every example on a query; the model's weights are as before when this returns."""
        state, index = method.prepare(self.model, query, self), IndexRef("", self.fingerprint)
        jobs = [SweepJob(self.model.spec, index, method, state, one_round, self.plan) for one_round in state.rounds]
        results = ThreadExecutor(self.model, Held([self.batch])).run(jobs)
        table = Table.of(self.ids, self.base_losses, self.base_sizes, state.rounds, results)
        return score(method.changes(state, table))


def off_its_minimum(training_set: InMemory, query: Query) -> Query:
    """The query, or where its loss has no gradient to speak of, a place near it that has one.

    That is a random point on a sphere about the query, which grows until the loss there is LEAST_LOSS. Ko et al. do so
    in their code for classifiers, with a radius of 3 about inputs whose length is some 55. Raises InvalidRequest where
    the loss is as low everywhere.
    """
    model, plan = training_set.model, training_set.plan
    draws = plan.draws([query.id], query.latents.shape[1:])
    length, stream, radius = query.latents.norm().clamp(min=1e-6), torch.Generator().manual_seed(0), 0.0
    while radius <= LARGEST_RADIUS:
        direction = torch.randn(query.latents.shape, generator=stream)
        moved = replace(query, latents=query.latents + radius * length / direction.norm() * direction)
        if float(losses(model, moved.batch(), draws).mean()) >= LEAST_LOSS:
            return moved
        radius = max(SMALLEST_RADIUS, radius * GROWTH)
    raise InvalidRequest(
        f"The model is sure of “{query.id}” and of all that is near it, so no gradient leads anywhere. Try another."
    )


def query_of(batch: LatentBatch, row: int = 0) -> Query:
    """An example of a batch as a query."""
    one = batch.rows(row, row + 1)
    digest = hashlib.sha256(one.latents.numpy().tobytes()).hexdigest()
    return Query(one.example_ids[0], digest, "", one.latents, one.conditioning)
