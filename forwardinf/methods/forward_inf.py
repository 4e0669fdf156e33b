"""Forward-INF: move the weights a little along the query's gradient, and see whose loss moved.

Ko et al., "The Mirrored Influence Hypothesis", CVPR 2024 (arXiv 2402.08922), section 4: ascend (or descend) the query's
loss, then compare each training example's loss before and after, by forward passes alone. By default it differs in:

- the step is preconditioned by a diagonal Fisher, as Wang et al. 2024 (arXiv 2406.09408, eq. 8) do, because a plain
  step damages the model at large;
- its length is set by its effect on the query's loss, so that no learning rate has to be tuned for a model;
- it is taken at the sweep's draws, so that each image is measured at the timesteps and noises at which the model was
  moved, and few draws are enough; its gradient also at `own_draws` of the query, its length at the sweep's alone;
- at the noisiest draws (`size_draws`) the size of the prediction is measured in place of its error, after a step of its
  own that raises it for the query;
- the score holds each change against the image's null distribution and weights it by likeness (scoring/score.py).

`curvature="kronecker"` takes the Fisher of matrices in an eigenbasis of each, close to the EK-FAC of AbU+ (arXiv
2511.10721); `kronecker_fisher` says what differs. It needs an index that was built with it.

Cost: on the query, a backward over its draws for each step and at most 12 evaluations to set its length, and one
evaluation before the first; all of it twice with `size_draws`. Then one forward per training image and draw. Nothing on
disk beside the index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator

from ..draws import DrawPlan
from ..gradients.curvature import WeightCurvature, preconditioned
from ..scoring.likeness import likeness
from ..scoring.score import Changes, change_of, likeness_weights, standardised
from ..sweep.losses import losses, losses_and_sizes
from ..sweep.rounds import Round
from ..sweep.table import Table
from ..types import Draws, LatentBatch, Query, size_draws_of
from . import settings
from .mirror import ByName, Move, Objective, moved
from .protocol import Mirrored, TrainingSet

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel

OwnDraws = Annotated[
    int, Field(ge=0, description="draws of the query beside the sweep's, at which its gradient is taken too")
]


@dataclass(frozen=True)
class ForwardInfState(Mirrored):
    latents: Tensor  # [1 c h w], the query's
    mean_latents: Tensor  # [c h w], of the training images
    paired: bool = False  # whether draws 2p and 2p + 1 of the sweep are antithetic


class ForwardInf(settings.MethodSettings):
    """The method; its fields are its settings."""

    against_null: ClassVar = True
    idle_while: ClassVar = {
        "seed": ("own_draws", 0),
        "size_budget": ("size_draws", 0),
        "damping": ("curvature", "none"),
    }

    steps: settings.Steps = 1
    direction: settings.Direction = "ascent"
    curvature: settings.Curvature = "fisher"
    loss_budget: settings.LossBudget = 0.1  # descent wants less: 0.02
    size_draws: settings.SizeDraws = 1
    size_budget: settings.SizeBudget = 0.03
    own_draws: OwnDraws = 0
    damping: settings.Damping = 0.1
    score: settings.Score = "root"
    standardised: settings.Standardised = True
    one_sided: settings.OneSided = True
    likeness: settings.Likeness = True
    seed: settings.Seed = 0

    @model_validator(mode="after")
    def _descends_by_a_share(self) -> ForwardInf:
        if self.direction == "descent" and self.loss_budget >= 1:
            raise ValueError(f"The loss budget is {self.loss_budget:g}; for descent it must be below 1.")
        return self

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> ForwardInfState:
        """Take the gradient steps on the query; the model's weights are as before when this returns."""
        of_losses, of_sizes = self._draws_of(training_set.plan)
        step = self._moved(model, query, training_set, "loss")
        rounds = [Round("loss", draws, step.deltas) for draws in of_losses]
        if self.likeness:
            rounds.insert(0, Round("likeness", (), one_figure=True))
        if of_sizes:
            size_step = self._moved(model, query, training_set, "size")
            rounds.append(Round("size", of_sizes, size_step.deltas))
        return ForwardInfState(
            rounds=tuple(rounds),
            step_sizes=step.step_sizes,
            loss_before=step.before,
            loss_after=step.after,
            paired=training_set.plan.antithetic,
            latents=query.latents.cpu(),
            mean_latents=training_set.mean_latents.cpu() if self.likeness else torch.zeros(query.latents.shape[1:]),
        )

    def measure(
        self, model: AttributableModel, state: ForwardInfState, one_round: Round, batch: LatentBatch, draws: Draws
    ) -> Tensor:
        """Losses `[b d]` or mean squares of the prediction `[b d]` under the moved weights, or likeness `[b 1]`."""
        if one_round.quantity == "likeness":
            return likeness(batch.latents.cpu(), state.latents, state.mean_latents)
        if one_round.quantity == "size":
            return losses_and_sizes(model, batch, draws)[1]
        return losses(model, batch, draws)

    def changes(self, state: ForwardInfState, table: Table) -> Changes:
        """Standardised changes of the losses at each draw, followed by those of the sizes once all images have them."""
        sign = 1.0 if self.direction == "ascent" else -1.0
        known = table.known("loss")
        if self.likeness:
            known = known.known("likeness")  # tasks come in any order
        before, after = known.base_losses_of("loss"), known["loss"]
        sizes = len(known.quantities["size"].draws) if known.has("size") else 0
        if sizes:
            before = torch.cat([before, known.base_sizes_of("size")], dim=1)
            after = torch.cat([after, known["size"]], dim=1)
        change = change_of(before, after, self.score, sign)
        if self.standardised:
            change = standardised(change, known.shares("loss", *["size"] * (sizes > 0)))
        if self.one_sided:
            change = change.clamp(min=0)
        weights = likeness_weights(known["likeness"], known.shares("likeness"))[:, 0] if self.likeness else None
        return Changes(known.example_ids, change, weights, sizes)

    def size_draws_at(self, plan: DrawPlan) -> tuple[int, ...]:
        """The draws of an index's plan at which sizes are measured."""
        return self._draws_of(plan)[1]

    def _draws_of(self, plan: DrawPlan) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
        """The draws at which losses are measured, round by round, and those at which sizes are."""
        losses = plan.count - size_draws_of(vars(self), plan.count)
        return [tuple(range(losses))], tuple(range(losses, plan.count))

    def _moved(
        self, model: AttributableModel, query: Query, training_set: TrainingSet, of: Literal["loss", "size"]
    ) -> Move:
        """The weights moved so that the query's loss, or the size of the prediction, changes by its budget."""
        plan, shape = training_set.plan, query.latents.shape[1:]
        objective = Objective(
            model, query.batch(), plan.draws([query.id], shape), of, self._gradient_draws(query, plan)
        )
        budget = self.size_budget if of == "size" else self.loss_budget
        sign = 1 if self.direction == "ascent" else -1
        return moved(objective, self._preconditioner(training_set), self.steps, sign, budget)

    def _preconditioner(self, training_set: TrainingSet) -> Callable[[ByName], ByName]:
        if self.curvature == "none":
            return lambda gradient: gradient
        if self.curvature == "kronecker":
            curvature = training_set.kronecker()
        else:
            curvature = {name: WeightCurvature(moments) for name, moments in training_set.fisher().items()}
        return partial(preconditioned, curvature=curvature, damping=self.damping)

    def _gradient_draws(self, query: Query, plan: DrawPlan) -> Draws:
        """The draws at which the gradient is taken: the sweep's, and the query's own behind them."""
        shape, own = query.latents.shape[1:], DrawPlan(self.seed, self.own_draws, antithetic=plan.antithetic)
        shared, added = plan.draws([query.id], shape), own.draws([query.id], shape)
        return Draws(torch.cat([shared.u, added.u], dim=1), torch.cat([shared.noise, added.noise], dim=1))


METHOD = ForwardInf
