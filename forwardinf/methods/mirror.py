"""A few gradient steps on a query, preconditioned by the curvature, whose lengths are set by their effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from ..errors import InvalidRequest
from ..gradients.per_example import mean_gradient, mean_value
from ..models.protocol import predicting
from ..types import Draws, LatentBatch

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel

TRIES, CLOSE = 12, 0.05  # of the line search, and how near its target it has to come, as a share of the way
MISSED = 0.5  # share of the whole way by which the steps may end short of their budget, or past it
ByName = dict[str, "Tensor"]  # a tensor for each tunable parameter


@dataclass(frozen=True)
class Move:
    """Where the steps moved the weights, and what that did to the query."""

    deltas: ByName
    step_sizes: tuple[float, ...]  # factor of the preconditioned gradient, one per step
    before: float  # the query's mean loss, or the mean size of its prediction
    after: float


@dataclass(frozen=True)
class Objective:
    """What the steps change: the mean loss of a query, or of other examples, over draws, or the prediction's size."""

    model: AttributableModel
    batch: LatentBatch
    draws: Draws
    of: Literal["loss", "size"] = "loss"
    gradient_draws: Draws | None = None  # at which its gradient is taken; None for the same

    @property
    def description(self) -> str:
        return {"loss": "loss", "size": "prediction size"}[self.of]

    def value(self, deltas: ByName) -> float:
        with self.model.with_deltas(deltas):
            return mean_value(self._figures, self.batch, self.draws)

    def gradient(self, deltas: ByName) -> ByName:
        with self.model.with_deltas(deltas):
            return mean_gradient(self.model, self._figures, self.batch, self.gradient_draws or self.draws)[1]

    def _figures(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """What the mean is taken of, `[b d]`."""
        if self.of == "size":
            return predicting(self.model).loss_and_size(batch, draws)[1]
        return self.model.loss(batch, draws)


def moved(objective: Objective, precondition: Callable[[ByName], ByName], steps: int, sign: int, budget: float) -> Move:
    """Steps along `sign` times the preconditioned gradient that change the objective by the relative `budget`.

    Raises InvalidRequest where the objective is not finite, no step changes it, or the budget is missed.
    """
    deltas = {name: torch.zeros_like(p) for name, p in objective.model.tunable_parameters().items()}
    before = reached = objective.value(deltas)
    if not 0 < before < float("inf"):
        raise InvalidRequest(
            f"The model's {objective.description} on this query is {before}, so no step can be sized by its effect on "
            "it. The checkpoint may hold weights that are not finite: try it in float32, or another checkpoint."
        )
    factors: list[float] = []
    for step in range(1, steps + 1):
        target = before * (1 + sign * budget) ** (step / steps)
        direction = {name: sign * g for name, g in precondition(objective.gradient(deltas)).items()}
        factor, reached = _line_search(objective, deltas, direction, reached, target)
        factors.append(factor)
        deltas = {name: delta + factor * direction[name] for name, delta in deltas.items()}
    _require_met(objective, before, reached, sign * budget)
    return Move(deltas, tuple(factors), before, reached)


def _line_search(
    objective: Objective, deltas: ByName, direction: ByName, start: float, target: float
) -> tuple[float, float]:
    """The factor of `direction` that brings the objective to `target`, and the value reached."""
    length = sum(float((d.square()).sum()) for d in direction.values()) ** 0.5
    factor, low, high = 1e-3 / max(length, 1e-30), 0.0, float("inf")
    best = (0.0, start)
    for _ in range(TRIES):
        reached = objective.value({name: delta + factor * direction[name] for name, delta in deltas.items()})
        progress = (reached - start) / (target - start)
        if abs(reached - target) < abs(best[1] - target):
            best = (factor, reached)
        if abs(progress - 1) <= CLOSE:
            break
        if progress < 1:
            low = factor
        else:
            high = factor
        factor = _inside(factor / progress if progress > 0 else 0.0, low, high)
    if best[0] == 0.0:
        raise InvalidRequest(
            f"No step moved this query's {objective.description} towards its budget. Try another direction or budget."
        )
    return best


def _require_met(objective: Objective, before: float, reached: float, budget: float) -> None:
    moved = reached / before - 1
    if not abs(moved / budget - 1) <= MISSED:
        raise InvalidRequest(
            f"The steps were to change this query's {objective.description} by {budget:.3%}, but changed it by "
            f"{moved:.3%}, so no score would mean what it should. Try another budget, a single step, or float32."
        )


def _inside(guess: float, low: float, high: float) -> float:
    """A next factor strictly between what was too little and what was too much."""
    if high == float("inf"):
        return min(max(guess, 2 * low), 64 * low) if low else guess
    return guess if low + 0.05 * (high - low) < guess < high else (low + high) / 2
