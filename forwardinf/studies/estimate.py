"""How long the studies of one method take on this machine, before any of them is run.

Counted in forward-equivalents: a backward counts as two forwards. Figures of an answer's race are guesses, as images
are dropped by what was measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..attribution.planning import plan_for
from ..attribution.race import KEPT
from ..attribution.shortlist import Effort
from ..attribution.size_null import ANSWERING
from ..draws import DrawPlan
from ..methods.steady import Steady
from ..sweep.executors.threads import measured_by_batch
from ..sweep.losses import losses
from ..types import LatentBatch

if TYPE_CHECKING:
    from ..models.sd import StableDiffusion

SEARCHED = 7  # evaluations of a line search, as a rule
BACKWARD = 2  # forwards that one takes as long as
TRAINING = 50.0  # seconds of one of the lab's, on two cores
CLOCKED = 3.0  # seconds that a rate is measured for


@dataclass(frozen=True)
class Part:
    """One part of the evidence."""

    name: str
    trials: int
    forwards: float  # forward-equivalents of all trials together
    on: str  # the model: shipped, lab
    seconds: float = 0.0  # beside forwards


@dataclass(frozen=True)
class Counts:
    """What a method's studies are counted by."""

    method: Steady
    images: int  # of an index, held-out ones included

    @property
    def _draws(self) -> DrawPlan:
        plan = plan_for(self.method)
        return DrawPlan(plan.seed, plan.draws, shared=True, antithetic=plan.antithetic)

    @property
    def steps(self) -> float:
        """Of the mirrored steps on a query: two gradients, each with its line search."""
        draws = self._draws.count
        return 2 * ((1 + BACKWARD) * (draws + self.method.own_draws) + draws * (1 + SEARCHED))

    @property
    def complete(self) -> float:
        """Of an answer that weighs every image."""
        return self.steps + self.images * sum(self.method.heats_at(self._draws))

    def answer(self, effort: Effort) -> float:
        """Of one that weighs the likely images."""
        first, *later = self.method.heats_at(self._draws)
        entrants = effort.raced + effort.similar + effort.worded + effort.raced_sample
        left = effort.raced_sample + 2 * KEPT * effort.first
        return self.steps + first * min(entrants, self.images) + sum(later) * min(left, self.images)

    def index(self, null_pictures: int, verdicts: bool) -> float:
        """Of an index: base losses, curvature, gradients of sizes, steps on null pictures and their answers.

        The moves that products are taken with are those that the first answers start from.
        """
        sizes = len(self.method.size_draws_at(self._draws))
        each = self._draws.count + (1 + BACKWARD) * sizes
        plan = plan_for(self.method)
        fisher = (1 + BACKWARD) * plan.fisher_images * plan.fisher_draws
        asked = 2 * null_pictures * self.answer(ANSWERING) if verdicts else null_pictures * self.steps
        return self.images * each + fisher + asked


def forwards_per_second(model: StableDiffusion, size: int = 8, clock: float = CLOCKED) -> float:
    """Of a sweep on this machine, measured for some seconds."""
    count, plan = 256, DrawPlan(0, 4, shared=True)
    ids = tuple(map(str, range(count)))
    shape = (model.unet.config.in_channels, size, size)
    batch = LatentBatch(ids, torch.randn(count, *shape), model.encode_prompt(["red apple"]).expand(count, -1))

    def measure(part: LatentBatch) -> torch.Tensor:
        return losses(model, part, plan.draws(part.example_ids, shape))

    began, done = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < clock or not done:
        done += sum(values.numel() for _, values in measured_by_batch(model, [batch], plan.count, measure))
    return done / seconds if seconds else float("inf")


def as_lines(parts: list[Part], rates: dict[str, float]) -> Iterator[str]:
    """A table of the parts, with the time that each takes at these rates, by model."""
    yield f"{'part':34} {'trials':>6} {'forwards':>12} {'hours':>6}"
    total = 0.0
    for part in parts:
        hours = (part.forwards / rates[part.on] + part.seconds) / 3600
        total += hours
        yield f"{part.name:34} {part.trials:>6} {part.forwards:>12,.0f} {hours:>6.1f}"
    yield f"{'all':34} {'':6} {'':12} {total:>6.1f}"
    yield ""
    told = ", ".join(f"{rate:,.0f} forwards a second of the {name} model" for name, rate in rates.items())
    yield f"By {told}, measured on this machine as it is now; a backward counts as {BACKWARD} forwards."
