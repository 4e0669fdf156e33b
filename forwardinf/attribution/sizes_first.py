"""Where to look first in an index without sketches: the size of the prediction is measured for every image.

That is one draw of the plan instead of all. What a sketch only foresees is known then, and the images are weighed in
stages as with one (shortlist.py).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..methods.protocol import AttributionMethod, QueryState
from .foresight import SizeChanges
from .paid import Paid
from .progress import AttributionProgress, Pace
from .shortlist import Effort, Shortlist

if TYPE_CHECKING:
    from torch import Tensor

    from ..index.store import Index
    from .attributor import Attributor

SIZE = "size"  # the quantity


@dataclass(frozen=True)
class MeasuredSizes(SizeChanges):
    """As measured."""

    index: Index
    measured: Tensor  # [n], changes of the root of the size, meant over the draws that measure it
    measured_at: int  # how many draws these are, the last of the plan

    @property
    def draws(self) -> int:
        return self.measured_at

    def changes(self, example_ids: Sequence[str]) -> Tensor:
        return self.measured[[self.index.catalog.numbers[example_id] for example_id in example_ids]]

    def candidates(self) -> tuple[Tensor, Tensor]:
        """All."""
        return torch.arange(len(self.measured)), self.measured


def can_measure_sizes_first(state: QueryState) -> bool:
    """Whether a method measures sizes, and something else that is worth sparing."""
    quantities = {r.quantity for r in state.rounds if r.draws}
    return SIZE in quantities and len(quantities) > 1


def sizes_measured(
    attributor: Attributor, state: QueryState, method: AttributionMethod, paid: Paid, effort: Effort
) -> Generator[AttributionProgress, None, MeasuredSizes]:
    """Measure the sizes of all images; how far that is comes on the way, without any score."""
    index, sizes = attributor.index, next(r for r in state.rounds if r.quantity == SIZE)
    ids = [image.id for image in index.catalog.images]
    nothing = Shortlist((), (), (), {}, torch.zeros(1), len(index.trained), effort)
    pace = Pace([sizes], len(ids), [m for m in paid.of(ids) if m.quantity == SIZE])
    now = AttributionProgress(
        **pace.now(), method=method, state=state, results=(), index=index, null=None, shortlist=nothing
    )
    yield now
    jobs = [job for job in attributor.jobs(state, method, paid) if job.round.quantity == SIZE]
    with closing(attributor.run(jobs)) as sweep:
        for measured in sweep:
            paid.add(measured)
            pace.pay(measured)
            yield AttributionProgress(**{**vars(now), **pace.now()})
    after = torch.empty(len(ids), len(sizes.draws))
    for measured in paid.of(ids):
        if measured.quantity == SIZE:
            after[[index.catalog.numbers[example_id] for example_id in measured.example_ids]] = measured.values
    before = index.base_sizes[:, list(sizes.draws)]
    return MeasuredSizes(index, (after.sqrt() - before.sqrt()).mean(dim=1), len(sizes.draws))
