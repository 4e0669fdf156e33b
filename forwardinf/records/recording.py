"""From an answer to the record that is kept of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from math import isnan
from typing import TYPE_CHECKING

from .. import __version__
from ..attribution.answer import GROUPED_BY
from ..methods.protocol import settings_of
from ..scoring.confidence import RATE
from ..scoring.groups import outranked
from ..types import size_draws_of
from .record import (
    FROM_CATALOG,
    AdapterRecord,
    ConfidenceRecord,
    GroupRecord,
    Groups,
    IndexRecord,
    Match,
    MethodRecord,
    Mirrored,
    ModelRecord,
    QueryRecord,
    Record,
    WeighedRecord,
)
from .text import with_verdict

if TYPE_CHECKING:
    from ..attribution.answer import Answer
    from ..examples.catalog import Catalog
    from ..index.store import Index


def record_of(
    answer: Answer,
    index: Index,
    top: int,
    *,
    notes: Sequence[str] = (),
    file_name: str = "",
    seconds: float | None = None,
) -> Record:
    """The record of an answer from `index`, with its `top` images.

    `notes` say what was converted when the picture was read; the answer took so many `seconds`.
    """
    info, query = index.info, answer.query
    settings = settings_of(answer.method)
    record = Record(
        version=__version__,
        answered_at=datetime.now(UTC).replace(microsecond=0),
        query=QueryRecord(
            sha256=query.sha256,
            prompt=query.prompt,
            fallback_caption=query.fallback_caption,
            notes=tuple(notes),
            file_name=file_name,
        ),
        method=MethodRecord(name=settings.pop("name"), settings=settings),
        mirrored=Mirrored(**vars(answer.steps)) if answer.steps else None,
        model=ModelRecord(name=info.model, fingerprint=info.fingerprint, tunable=answer.tunable),
        index=IndexRecord(
            name=index.folder.name,
            fingerprint=index.fingerprint,
            examples=index.count,
            trained=len(answer.scores.example_ids) + len(answer.missed),
            draws=info.draw_count,
            draw_seed=info.draw_seed,
            fit=info.fit,
            flip=info.flip,
        ),
        confidence=_confidence(answer),
        weighed=WeighedRecord(**vars(answer.weighed)) if answer.weighed else None,
        results=tuple(islice(matches_of(answer, index.catalog), top)),
        groups=Groups(**{key: _groups(answer, key) for key in GROUPED_BY}),
        seconds=seconds,
    )
    return with_verdict(record)


def matches_of(answer: Answer, catalog: Catalog) -> Iterator[Match]:
    """Every scored image as a match, best first."""
    scores, sure = answer.scores, answer.confidence
    position = {example_id: i for i, example_id in enumerate(scores.example_ids)}
    most_similar = sorted(answer.similarities, key=lambda example_id: -answer.similarities[example_id])
    similarity_rank = {example_id: rank for rank, example_id in enumerate(most_similar, 1)}
    unknown = [None] * len(position)
    p_values = unknown if sure.p_values is None else sure.p_values.tolist()
    stands_out = unknown if sure.stands_out is None else sure.stands_out.tolist()
    measured = scores.per_draw.isfinite()
    of_sizes = measured[:, measured.shape[1] - size_draws_of(vars(answer.method), measured.shape[1]) :].sum(dim=1)
    for rank, (example_id, score, error) in enumerate(scores.top(len(position)), 1):
        i, image = position[example_id], catalog.by_id[example_id]
        yield Match(
            rank=rank,
            id=example_id,
            score=score,
            standard_error=None if isnan(error) else error,
            p_value=p_values[i],
            stands_out=stands_out[i],
            rank_range=tuple(sure.rank_ranges[i].tolist()),
            similarity=answer.similarities[example_id],
            similarity_rank=similarity_rank[example_id],
            per_draw=tuple(scores.per_draw[i][measured[i]].tolist()),
            size_draws=int(of_sizes[i]),
            is_fallback_caption=image.caption == answer.query.fallback_caption,
            adapter=_adapter(answer, example_id),
            **{key: getattr(image, key) for key in FROM_CATALOG},
        )


def _adapter(answer: Answer, example_id: str) -> AdapterRecord | None:
    if answer.adapter_losses is None:
        return None
    loss, without = answer.adapter_losses[example_id]
    return AdapterRecord(loss=loss, loss_without=without)


def _confidence(answer: Answer) -> ConfidenceRecord:
    null = answer.confidence.null_scores
    return ConfidenceRecord(
        stand_out=answer.confidence.number_standing_out,
        false_discovery_rate=RATE,
        null_pictures=answer.confidence.null_pictures,
        threshold=answer.confidence.threshold,
        highest_of_null=() if null is None else tuple(null.tolist()),
    )


def _groups(answer: Answer, key: str) -> tuple[GroupRecord, ...]:
    of = len(answer.scores.example_ids)
    return tuple(
        GroupRecord(**vars(group), outranks=outranked(group.images, group.mean_rank, of))
        for group in answer.groups[key]
    )
