"""Forward-INF at more draws, to be steadier between noise seeds, on an index that costs a quarter to build.

It differs from `forward_inf` in:

- sixteen draws in place of four, in antithetic pairs; the prediction's error is measured at all of them, its size also
  at the noisiest four. Rounds are nested, so that the first four draws lie evenly in the schedule, and so do the first
  eight (attribution/race.py weighs few images at all sixteen);
- the gradient is taken at 48 further draws of the query, where the step's direction matters more than its length;
- the score (scoring/steady.py): errors by their mean, weighted by likeness, without a null; sizes where they exceed it.

An index for it keeps each image's gradient of the size as a sketch, and its product with the moves of the null
pictures in place of sweeps (attribution/size_null.py).

Cost: on the query, two backwards over 64 draws and at most 26 evaluations over 16. Then 4 to 20 forwards per training
image that is weighed. One backward per image is paid when the index is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field

from ..draws import DrawPlan
from ..scoring.score import change_of
from ..scoring.steady import SteadyChanges, standardised_at
from ..sweep.table import Table
from . import settings
from .forward_inf import ForwardInf, ForwardInfState, OwnDraws

if TYPE_CHECKING:
    from torch import Tensor

HEATS = (4, 4)  # draws of the rounds before the last
SIZED = 1  # number of the heat that measures sizes too, where there are as many
LikenessExponent = Annotated[float, Field(ge=0, le=10, description="power of the weight by likeness")]


class Steady(ForwardInf):
    """The method; its fields are the settings of `forward_inf`, most with the same defaults, and one more."""

    index_draws: ClassVar = 16
    antithetic: ClassVar = True
    idle_while: ClassVar = {**ForwardInf.idle_while, "likeness_exponent": ("likeness", False)}

    size_draws: settings.SizeDraws = 4
    own_draws: OwnDraws = 48
    likeness_exponent: LikenessExponent = 1.5

    def changes(self, state: ForwardInfState, table: Table) -> SteadyChanges:
        """Standardised changes of losses draw by draw, and behind them of sizes, of the images that have a round."""
        rows = table.with_all("loss", next(r.draws for r in state.rounds if r.quantity == "loss"))
        if self.likeness:
            rows &= table.with_all("likeness")  # tasks come in any order
        known, weights = table.at(rows), self.weights(table)[rows] if self.likeness else None
        sign, errors = 1.0 if self.direction == "ascent" else -1.0, known.quantities["loss"]
        change = change_of(known.base_losses_of("loss"), errors.values, self.score, sign)
        if self.standardised:
            about, deviations = standardised_at(change, errors.measured, errors.stands_for)
            change = about / deviations
        if self.one_sided:
            change = change.clamp(min=0)
        sizes = self._size_changes(known, sign) if "size" in known.quantities else change[:, :0]
        found = torch.cat([change, sizes], dim=1)
        return SteadyChanges(known.example_ids, found, weights, sizes.shape[1], state.paired)

    def heats_at(self, plan: DrawPlan) -> list[int]:
        """Draws, of errors and of sizes, at which an image is measured in each heat of a race on an index's plan."""
        of_losses, of_sizes = self._draws_of(plan)
        draws = list(map(len, of_losses))
        draws[min(SIZED, len(draws) - 1)] += len(of_sizes)
        return draws

    def _size_changes(self, known: Table, sign: float) -> Tensor:
        """The terms of equation (2)."""
        sizes = known.quantities["size"]
        change = change_of(known.base_sizes_of("size"), sizes.values, self.score, sign)
        if not self.standardised:
            return change
        about, _ = standardised_at(change, sizes.measured, sizes.stands_for)
        once = slice(1)  # all draws of a size are measured together
        shares = None if sizes.stands_for is None else sizes.stands_for[:, once]
        return about / standardised_at(change.mean(dim=1, keepdim=True), sizes.measured[:, once], shares)[1]

    def weights(self, table: Table) -> Tensor:
        """Equation (4), `[n]`, about the mean of all images whose likeness is known, with a loss or without."""
        alike = table.quantities["likeness"]
        about, deviations = standardised_at(alike.values, alike.measured, alike.stands_for)
        return (1 + (about / deviations).clamp(min=0))[:, 0] ** self.likeness_exponent

    def _draws_of(self, plan: DrawPlan) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
        """The draws at which losses are measured, in nested rounds, and those at which sizes are."""
        ends = [sum(HEATS[: n + 1]) for n in range(len(HEATS))]
        parts = zip([0, *ends], [*ends, plan.count], strict=True)
        rounds = [tuple(sorted(plan.nested[start:end])) for start, end in parts]
        sizes = range(plan.count - min(self.size_draws, plan.count), plan.count)
        return [draws for draws in rounds if draws], tuple(sizes)


METHOD = Steady
