"""Answers that do not weigh every image: what says where to look first, and how that is followed."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from ..gradients.whitening import Whitening
from ..methods.protocol import AttributionMethod, QueryState
from ..methods.steady import Steady
from ..types import Query
from .foresight import Foresight, SizeChanges
from .paid import Paid
from .progress import AttributionProgress
from .race import begun, raced
from .shortlist import Effort, Shortlist, worded
from .sizes_first import can_measure_sizes_first, sizes_measured
from .stages import followed_by_stages

if TYPE_CHECKING:
    from .attributor import Attributor


def answered_in_part(
    attributor: Attributor,
    query: Query,
    state: QueryState,
    method: AttributionMethod,
    effort: Effort,
    paid: Paid,
    began: float,
) -> Generator[AttributionProgress, None, bool]:
    """The scores of the likely images as they come in, and whether there are any: not where all have to be weighed.

    What is measured is added to what is `paid`. `began` is when the question was asked, by `time.perf_counter`.
    """
    index = attributor.index
    if not index.trained <= frozenset(index.visited):
        return False
    at_once = effort.raced if isinstance(method, Steady) else effort.at_once
    if at_once >= len(index.trained):
        return False
    foresight: SizeChanges | None = foresight_of(attributor, state)
    if foresight is None and can_measure_sizes_first(state):
        foresight = yield from sizes_measured(attributor, state, method, paid, effort)
    if foresight is None:
        return False
    others = _others(attributor, query, effort)
    if isinstance(method, Steady):
        race = begun(attributor, state, method, foresight, others, paid, effort)
        if len(race.entrants) >= len(index.trained):
            return False
        yield from raced(attributor, state, method, race, paid, began)
        return True
    null = None if attributor.null(method) is None else attributor.null_changes(method)
    found = Shortlist.of(foresight, null, others, effort)
    if sum(map(len, found.stages)) >= len(index.trained):
        return False
    yield from followed_by_stages(attributor, state, method, found, paid, began)
    return True


def foresight_of(attributor: Attributor, state: QueryState) -> Foresight | None:
    """What the index's sketches say of where a method's state moves sizes; None where they do not."""
    sketches, move = attributor.index.sketches, next((r for r in state.rounds if r.quantity == "size"), None)
    if sketches is None or move is None or sketches.info.draws != move.draws:
        return None
    kept = sketches.info
    whitening = Whitening(attributor.index.fisher(), kept.damping, kept.dimensions, kept.seed)
    return Foresight(attributor.index, sketches, whitening.of_move(move.deltas))


def _others(attributor: Attributor, query: Query, effort: Effort) -> list[str]:
    """The training images most similar to a query's picture, and those with words of its prompt."""
    similar = attributor.nearest(query.picture, effort.similar) if query.picture else []
    caption = query.prompt if query.fallback_caption is None else query.fallback_caption
    return [*similar, *worded(attributor.index, caption, effort.worded)]
