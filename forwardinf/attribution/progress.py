"""Where an attribution stands, as snapshots that do not change afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from ..index.store import Index
from ..methods.protocol import AttributionMethod, QueryState
from ..scoring.null import NullDistribution
from ..scoring.score import Changes, score
from ..sweep.rounds import Measured, Round, forwards
from ..sweep.table import Table
from ..types import InfluenceScores
from .shortlist import Effort
from .tables import table_of


class Selection(Protocol):
    """Which training images are weighed, where not all are."""

    @property
    def likely(self) -> tuple[str, ...]:
        """Those that were chosen for what was foreseen, most likely first."""

    @property
    def effort(self) -> Effort: ...

    def table(self, index: Index, state: QueryState, results: tuple[Measured, ...], stages: int) -> Table:
        """What was measured in so many stages."""

    def overlooked(self, scores: InfluenceScores, stages: int) -> float:
        """How many of the images that were not weighed are expected to belong among the first."""


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
    shortlist: Selection | None = None  # the training images to be weighed; None for all images of the index
    stages: int = 0  # of the shortlist, or heats, that are whole; scores are of these
    ended: str = ""  # why no further stage is begun

    @property
    def has_answer(self) -> bool:
        """Whether its scores are an answer: those of all images, or of some whole stages of a shortlist."""
        return self.done == self.total if self.shortlist is None else self.stages > 0

    @cached_property
    def table(self) -> Table:
        """What was measured, beside the base losses of the same images."""
        if self.shortlist is None:
            return table_of(self.index, self.state, self.results)
        return self.shortlist.table(self.index, self.state, self.results, self.stages)

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


class Pace:
    """How far a sweep over so many images is, by the forwards that are paid."""

    def __init__(self, rounds: Sequence[Round], images: int, before: Iterable[Measured] = ()) -> None:
        """What was measured `before` is paid, but says nothing of how fast the sweep is."""
        unpaid = 0 if forwards(rounds, images) else 1  # a round without forwards is free, unless none has any
        self._cost = {r.key: len(r.draws) or unpaid for r in rounds}
        self._images, self._paid, self._start = images, 0, time.perf_counter()
        for measured in before:
            self.pay(measured)
        self._before = self._paid

    def pay(self, measured: Measured) -> None:
        self._paid += len(measured.example_ids) * self._cost[measured.key]

    @property
    def begun(self) -> bool:
        return self._paid > 0

    def now(self) -> dict[str, Any]:
        """The first fields of an AttributionProgress."""
        everything = self._images * sum(self._cost.values())
        share, now = self._paid / everything, (self._paid - self._before) / everything
        seconds = max(time.perf_counter() - self._start, 1e-9)
        left = seconds * (1 - share) / now if now else 0.0 if share == 1 else float("inf")
        done = round(share * self._images)
        return {"done": done, "total": self._images, "rate": now * self._images / seconds, "seconds_left": left}
