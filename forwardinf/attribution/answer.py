"""A finished attribution: the scores of the training images, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InvalidRequest
from ..methods.protocol import AttributionMethod, Mirrored, QueryState
from ..scoring.confidence import Confidence
from ..scoring.groups import Group, ranked_groups
from ..types import InfluenceScores, Query

if TYPE_CHECKING:
    from ..examples.catalog import Catalog
    from ..index.store import Index
    from .attributor import Attributor
    from .progress import AttributionProgress

GROUPED_BY = ("collection", "licence", "creator")
STOPPED = "it was stopped"


@dataclass(frozen=True)
class QuerySteps:
    """What the gradient steps on a query did to the query's loss."""

    loss_before: float
    loss_after: float
    step_sizes: tuple[float, ...]  # factor of the (preconditioned) gradient, one per step


@dataclass(frozen=True)
class Weighed:
    """What an answer rests on that did not weigh every training image."""

    images: int  # that were weighed
    first: int  # how many images were to be decided
    ended: str  # why no more were weighed
    overlooked: float  # images expected to belong among the first, of those that were not weighed


@dataclass(frozen=True)
class Answer:
    """The influence of every training image on a query, with everything a reader needs to judge it."""

    query: Query
    method: AttributionMethod
    tunable: str  # which weights the query moved
    steps: QuerySteps | None  # None for a method that takes none
    scores: InfluenceScores  # of training images only
    confidence: Confidence
    groups: dict[str, tuple[Group, ...]]  # by each of GROUPED_BY, highest-ranking first; none without every image
    similarities: dict[str, float]  # cosine of every training image with the query
    missed: tuple[str, ...]  # training images without a score; none after an exhaustive sweep
    weighed: Weighed | None = None  # None where every training image was to be weighed
    # Mean losses of every training image with and without the model's adapter; None where it has none.
    adapter_losses: dict[str, tuple[float, float]] | None = None


def answer_of(attributor: Attributor, query: Query, method: AttributionMethod, finished: AttributionProgress) -> Answer:
    """The answer that a sweep arrived at; call it once the sweep is closed, because the model may embed the query.

    Raises InvalidRequest where a score is not a finite number.
    """
    scores, index = finished.scores(), attributor.index
    _require_finite(scores)
    assert query.picture is not None, "the queries of an Attributor are pictures"
    similarities = zip(index.catalog.images, attributor.similarities(query.picture).tolist(), strict=True)
    return Answer(
        query=query,
        method=method,
        tunable=attributor.model.spec.tunable,
        steps=_steps_of(finished.state),
        scores=scores,
        confidence=attributor.confidence(scores, method, query.prompted),
        groups={key: () if finished.shortlist else _groups(scores, index.catalog, key) for key in GROUPED_BY},
        similarities={image.id: similarity for image, similarity in similarities if image.id in index.trained},
        missed=_missing(index.trained, scores.example_ids),
        weighed=_weighed(finished, scores),
        adapter_losses=_adapter_losses(attributor.index),
    )


def _adapter_losses(index: Index) -> dict[str, tuple[float, float]] | None:
    if index.unadapted_losses is None or index.only is not None:
        return None
    means = zip(index.base_losses.mean(dim=1).tolist(), index.unadapted_losses.mean(dim=1).tolist(), strict=True)
    return {image.id: both for image, both in zip(index.catalog.images, means, strict=True)}


def _weighed(finished: AttributionProgress, scores: InfluenceScores) -> Weighed | None:
    found = finished.shortlist
    if found is None:
        return None
    overlooked = found.overlooked(scores, finished.stages)
    return Weighed(len(scores.example_ids), found.effort.first, finished.ended or STOPPED, overlooked)


def _steps_of(state: QueryState) -> QuerySteps | None:
    if not isinstance(state, Mirrored):
        return None
    return QuerySteps(state.loss_before, state.loss_after, state.step_sizes)


def _groups(scores: InfluenceScores, catalog: Catalog, key: str) -> tuple[Group, ...]:
    names = [getattr(catalog.by_id[example_id], key) for example_id in scores.example_ids]
    return tuple(ranked_groups(scores.scores, names))


def _missing(trained: Iterable[str], scored: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(trained) - set(scored)))


def _require_finite(scores: InfluenceScores) -> None:
    finite = scores.scores.isfinite()
    if not finite.all():
        first = scores.example_ids[int(finite.logical_not().nonzero()[0])]
        raise InvalidRequest(
            f"The scores of {int((~finite).sum()):,} training images are not finite numbers; the first is “{first}”. "
            "Try a smaller loss budget, or another query."
        )
