"""Where an attribution stands, as snapshots that do not change afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..index.store import Index
from ..methods.protocol import AttributionMethod, QueryState
from ..scoring.null import NullDistribution
from ..scoring.score import Changes, score
from ..sweep.rounds import Measured
from ..sweep.table import Table
from ..types import InfluenceScores


@dataclass(frozen=True)
class AttributionProgress:
    """What was measured up to some moment of a sweep, and the influence that follows from it."""

    done: int  # images, held-out ones included: `total` times the share of all forwards that are done
    total: int
    rate: float  # images per second
    seconds_left: float
    method: AttributionMethod
    state: QueryState
    results: tuple[Measured, ...]
    index: Index
    null: NullDistribution | None  # None where the index has no null distribution for this method

    @cached_property
    def table(self) -> Table:
        """What was measured, beside the base losses of the same images."""
        return table_of(self.index, self.state, self.results)

    @cached_property
    def changes(self) -> Changes:
        """What the method found, before it is held against a null distribution; of held-out images too."""
        return self.method.changes(self.state, self.table)

    def all_scores(self) -> InfluenceScores:
        """Scores of the images measured so far, held-out ones too."""
        return score(self.changes, self.null)

    def scores(self) -> InfluenceScores:
        """Scores of the training images measured so far."""
        return self.all_scores().of(self.index.trained)


def table_of(index: Index, state: QueryState, results: tuple[Measured, ...]) -> Table:
    """The measurements of a sweep over the images that `index` visits."""
    ids = tuple(image.id for image in index.catalog.images if index.only is None or image.id in index.only)
    return Table.of(ids, index.base_losses, index.base_sizes, state.rounds, results)
