"""Forward-INF: move the weights a little along the query's own gradient, and see whose loss moved.

Ko et al., "The Mirrored Influence Hypothesis", CVPR 2024 (arXiv 2402.08922), section 4: ascend (or descend) the query's
loss, then compare each training example's loss before and after, by forward passes alone. Four things are ours by
default: the step is preconditioned by a diagonal Fisher, as Wang et al. 2024 (arXiv 2406.09408, eq. 8) do, because a
plain step damages the model at large (`curvature="none"` takes it all the same); its size is found by its effect on the
query's loss, so that no learning rate has to be tuned for a model; it is taken at the sweep's own draws, so that each
image is asked about the very timesteps and noises at which the model was moved, and few draws tell enough; and an image
that moved counts for more where it also looks more like the query than most do (`likeness`). Likeness alone counts for
nothing. It is what is known before anything is asked, and what few draws leave open it helps to tell.

A fifth is that the noisiest draw (`size_draws`) asks for the size of what the network predicts, not for its error, and
after a step of its own that raises it for the query, as D-TRAK (Zheng et al. 2024, arXiv 2311.00500) differentiates it:
an image that was learned by heart has hardly any error left to change. Such a change counts by its square, which tells
what lies far beyond an image's habit from what lies a little beyond it, and without likeness.

`curvature="kronecker"` takes the Fisher in an eigenbasis of each weight matrix, close to the EK-FAC of AbU+ (in arXiv
2511.10721); `kronecker_fisher` says what differs. It needs an index that was built with it.

Cost: one backward per step on the query's draws and at most 12 forwards to size it, both twice with `size_draws`; then
one forward per training image and draw. Nothing on disk beside the index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import torch

from ..draws import DrawPlan
from ..errors import InvalidRequest
from ..gradients.curvature import preconditioned_by
from ..gradients.per_example import weight_gradients
from ..models.protocol import predicting
from ..scoring.likeness import likeness
from ..sweep.sweep import losses_and_sizes_of, losses_of
from ..types import Draws, InfluenceScores, LatentBatch, MirroredWeights, Query, SweepLosses, size_draws_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel
    from .protocol import TrainingSet

Curvature = Literal["fisher", "kronecker", "none"]
Score = Literal["difference", "absolute", "skew", "root"]
SCORES = get_args(Score)
SKEW_FLOOR = 1e-3  # keeps the skew of two near-zero losses near zero (MUCS, arXiv 2605.17938)


@dataclass(frozen=True)
class ForwardInfState(MirroredWeights):
    looks: tuple[Tensor, Tensor] | None = None  # latents of the query [1 c h w], and the mean [c h w] they are about
    sized: bool = False  # whether the sweep asks for the size of the prediction, not for its error


@dataclass(frozen=True)
class ForwardInf:
    """Settings of the method; raises InvalidRequest where one is out of range."""

    steps: int = 1
    direction: Literal["ascent", "descent"] = "ascent"
    curvature: Curvature = "fisher"  # what the gradient is preconditioned by
    loss_budget: float = 0.1  # relative change of the query's loss that the steps add up to; descent wants less (0.02)
    size_draws: int = 1  # of the sweep's, the noisiest: the size of the prediction is asked there, not its error
    size_budget: float = 0.03  # relative change of the size of the query's prediction by the steps for it
    own_draws: int = 0  # of the query, beside the sweep's
    damping: float = 0.1  # share of a layer's mean Fisher that is added to it
    score: Score = "root"
    standardised: bool = True  # per draw, over the examples
    one_sided: bool = True  # per draw, a change below the average counts as none
    likeness: bool = True  # whether an image that moved counts for more where it looks like the query
    seed: int = 0

    def __post_init__(self) -> None:
        if self.direction not in ("ascent", "descent"):
            raise InvalidRequest(f"The direction is “{self.direction}”; it must be ascent or descent.")
        if self.curvature not in get_args(Curvature):
            raise InvalidRequest(f"The curvature is “{self.curvature}”; it must be fisher, kronecker or none.")
        if self.score not in SCORES:
            raise InvalidRequest(f"The score is “{self.score}”; it must be one of {', '.join(SCORES)}.")
        if not 1 <= self.steps <= 100:
            raise InvalidRequest(f"The number of gradient steps is {self.steps}; it must lie between 1 and 100.")
        if not 0 < self.loss_budget < (1 if self.direction == "descent" else 100):
            raise InvalidRequest(f"The loss budget is {self.loss_budget}; it must be above 0, and below 1 for descent.")
        if not self.damping > 0:
            raise InvalidRequest(f"The damping is {self.damping}; it must be above 0.")
        if self.own_draws < 0:
            raise InvalidRequest(f"The number of own draws is {self.own_draws}; it must be at least 0.")
        if self.size_draws < 0 or not 0 < self.size_budget < 1:
            raise InvalidRequest(
                f"The draws for sizes are {self.size_draws} and their budget is {self.size_budget}; there must be at "
                "least 0 of them, and the budget must lie between 0 and 1."
            )

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> ForwardInfState:
        """Take the gradient steps on the query; the model's weights are as before when this returns."""
        looks = (query.latents.cpu(), training_set.mean_latents.cpu()) if self.likeness else None
        count = training_set.plan.count
        erring = count - size_draws_of(vars(self), count)
        state = self._moved(model, query, training_set, sized=False)
        if erring == count:
            return replace(state, looks=looks)
        then = replace(self._moved(model, query, training_set, sized=True), draws=range(erring, count))
        return replace(state, looks=looks, draws=range(erring), then=then)

    def _moved(self, model: AttributableModel, query: Query, training_set: TrainingSet, sized: bool) -> ForwardInfState:
        """The weights moved so that the query's loss, or the size of the prediction, changes by its budget."""
        precondition = self._preconditioner(training_set)
        sign = 1 if self.direction == "ascent" else -1
        ask = _Objective(model, query, self._draws(query, training_set.plan), sized)
        deltas = {name: torch.zeros_like(p) for name, p in model.tunable_parameters().items()}
        before = reached = ask.value(deltas)
        budget = self.size_budget if sized else self.loss_budget
        factors: list[float] = []
        for step in range(1, self.steps + 1):
            target = before * (1 + sign * budget) ** (step / self.steps)
            move = {name: sign * g for name, g in precondition(ask.gradient(deltas)).items()}
            factor, reached = _line_search(ask, deltas, move, reached, target)
            factors.append(factor)
            deltas = {name: delta + factor * move[name] for name, delta in deltas.items()}
        return ForwardInfState(query.id, deltas, sign, self.steps, tuple(factors), before, reached, sized=sized)

    def measure(self, model: AttributableModel, state: ForwardInfState, batch: LatentBatch, plan: DrawPlan) -> Tensor:
        """Losses `[b d]` under the moved weights; behind them, where it counts, how alike each is to the query.

        Of a state for sizes, mean squares of the prediction.
        """
        if state.sized:
            return losses_and_sizes_of(model, batch, plan)[:, len(plan.taken) :]
        losses = losses_of(model, batch, plan)
        if state.looks is None:
            return losses
        return torch.cat([losses, likeness(batch.latents.cpu(), *state.looks)], dim=1)

    def scores(self, state: ForwardInfState, losses: SweepLosses) -> InfluenceScores:
        """Per-draw changes of loss as this method's score: mean and standard error over draws.

        A squared error's gradient grows with the square root of the error, so a plain difference favours images that
        are badly fitted and a relative one those that are well fitted; the difference of roots favours neither.

        Weights are 1, and more by as many standard deviations as an image is more like the query than the average is.
        """
        sign = 1.0 if self.direction == "ascent" else -1.0
        base, mirrored, alike = self._sides(state, losses)
        change = sign * (mirrored.sqrt() - base.sqrt() if self.score == "root" else mirrored - base)
        if self.score == "absolute":
            change = change.abs()
        if self.score == "skew":
            change = change / (mirrored + base + SKEW_FLOOR)
        if self.standardised:
            change = _standardised(change)
        if self.one_sided:
            change = change.clamp(min=0)
        weights = 1 + _standardised(alike)[:, 0].clamp(min=0) if self.likeness else None
        sized = 0 if state is None or state.draws is None else base.shape[1] - len(state.draws)
        return InfluenceScores.over(losses.example_ids, change, weights, sized)

    def _sides(self, state: ForwardInfState, losses: SweepLosses) -> tuple[Tensor, Tensor, Tensor]:
        """Before and after the move `[n d]`, losses and behind them sizes, and likenesses `[n 1]`, where they count.

        Before the round for sizes is over, losses alone.
        """
        erring = losses.base.shape[1] if state is None or state.draws is None else len(state.draws)
        split = erring + self.likeness
        errors, alike, sizes = losses.measured.tensor_split((erring, split), dim=1)
        base = torch.cat([losses.base[:, :erring], losses.base_sizes[:, erring : erring + sizes.shape[1]]], dim=1)
        return base, torch.cat([errors, sizes], dim=1), alike

    def _preconditioner(self, training_set: TrainingSet) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        if self.curvature == "kronecker":
            return partial(preconditioned_by, curvature=training_set.kronecker(), damping=self.damping)
        fisher = training_set.fisher() if self.curvature == "fisher" else None
        return partial(preconditioned, fisher=fisher, damping=self.damping)

    def _draws(self, query: Query, plan: DrawPlan) -> Draws:
        shape = query.latents.shape[1:]
        shared, own = plan.draws([query.id], shape), DrawPlan(self.seed, self.own_draws).draws([query.id], shape)
        return Draws(torch.cat([shared.u, own.u], dim=1), torch.cat([shared.noise, own.noise], dim=1))


METHOD = ForwardInf


def _standardised(values: Tensor) -> Tensor:
    """Columns of `[n ...]` about their mean over the examples, in standard deviations; as they are for one example."""
    return (values - values.mean(dim=0)) / values.std(dim=0).clamp(min=1e-12) if len(values) > 1 else values


def preconditioned(gradient: dict[str, Tensor], fisher: dict[str, Tensor] | None, damping: float) -> dict[str, Tensor]:
    """F⁻¹ g with a damped diagonal F, one layer at a time; the gradient itself where there is no Fisher."""
    if fisher is None:
        return gradient
    moves = {}
    for name, g in gradient.items():  # one weight at a time, as each copy of all takes 4 bytes a weight
        damped = fisher[name] + damping * fisher[name].mean() + 1e-30
        moves[name] = g.float() / damped.to(g.device)
    return moves


@dataclass(frozen=True)
class _Objective:
    """What a step on a query raises: its mean loss, or the mean size of the prediction for it."""

    model: AttributableModel
    query: Query
    draws: Draws
    sized: bool

    @torch.no_grad()
    def value(self, deltas: dict[str, Tensor]) -> float:
        with self.model.with_deltas(deltas):
            return float(self._mean())

    def gradient(self, deltas: dict[str, Tensor]) -> dict[str, Tensor]:
        with self.model.with_deltas(deltas):
            return weight_gradients(self.model, self._mean())

    def _mean(self) -> Tensor:
        batch = self.query.batch()
        if self.sized:
            return predicting(self.model).loss_and_size(batch, self.draws)[1].mean()
        return self.model.loss(batch, self.draws).mean()


def _line_search(
    ask: _Objective, deltas: dict[str, Tensor], move: dict[str, Tensor], start: float, target: float
) -> tuple[float, float]:
    """The factor of `move` that brings what is asked to `target`, within 5 % of the way, in at most 12 tries."""
    slope = sum(float((m.square()).sum()) for m in move.values()) ** 0.5
    factor, low, high = 1e-3 / max(slope, 1e-30), 0.0, float("inf")
    best = (0.0, start)
    for _ in range(12):
        moved = {name: delta + factor * move[name] for name, delta in deltas.items()}
        reached = ask.value(moved)
        progress = (reached - start) / (target - start)
        if abs(reached - target) < abs(best[1] - target):
            best = (factor, reached)
        if abs(progress - 1) <= 0.05:
            break
        if progress < 1:
            low = factor
        else:
            high = factor
        guess = factor / progress if progress > 0 else 0.0
        factor = _inside(guess, low, high)
    if best[0] == 0.0:
        raise InvalidRequest("No step moved this query's loss towards its budget; try another direction or budget.")
    return best


def _inside(guess: float, low: float, high: float) -> float:
    """A next factor strictly between what was too little and what was too much."""
    if high == float("inf"):
        return min(max(guess, 2 * low), 64 * low) if low else guess
    return guess if low < guess < high and guess > low + 0.05 * (high - low) else (low + high) / 2
