"""What the machine found of a picture: which kept record, and the training images that it lists."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, insert, select

from ..errors import StorageFailed
from ..records.record import Match
from ..records.store import RECORD, Result
from ..records.text import verdict_of
from .cases import Case, Picture
from .database import Database, now, storable
from .schema import answers, cases, matches, pictures

FROM_MATCH = (
    *("rank", "caption", "subject", "collection", "creator", "licence", "licence_url", "source_url", "sha256"),
    *("score", "similarity", "p_value", "stands_out"),
)


@dataclass(frozen=True)
class FoundMatch:
    """A training image that an answer lists."""

    rank: int
    example_id: str
    caption: str
    subject: str
    collection: str
    creator: str
    licence: str
    licence_url: str
    source_url: str
    sha256: str
    phash: str  # empty where the catalog has none
    score: float
    best_rank: int
    worst_rank: int
    similarity: float
    p_value: float | None
    stands_out: bool | None


@dataclass(frozen=True)
class Finding:
    """A picture's last answer."""

    result_id: str
    record_sha256: str  # of record.json as it was kept
    model: str  # fingerprint
    index_fingerprint: str
    answered_at: str
    verdict: str  # one sentence
    number_standing_out: int | None  # None where that is not known
    matches: tuple[FoundMatch, ...]  # best first


def record_bytes(result: Result) -> bytes:
    """The record of an answer as it is kept; raises StorageFailed where it could not be."""
    if result.folder is None:
        raise StorageFailed(
            f"The answer about “{result.record.query.file_name}” could not be kept, so nothing can rest on it. "
            "Make room in the results folder or change its permissions, and run the case again; what is answered stays."
        )
    return (result.folder / RECORD).read_bytes()


def keep_answer(database: Database, picture: Picture, result: Result, phashes: Mapping[str, str]) -> None:
    """Note that a kept answer is about `picture`; `phashes` are those of its training images, by id."""
    record, digest = result.record, hashlib.sha256(record_bytes(result)).hexdigest()
    row = {
        "picture_id": picture.id,
        "result_id": result.id,
        "record_sha256": digest,
        "model": record.model.fingerprint,
        "index_fingerprint": record.index.fingerprint,
        "answered_at": record.answered_at.strftime("%Y-%m-%dT%H:%M:%SZ") if record.answered_at else now(),
        "verdict": storable(verdict_of(record).headline),
        "number_standing_out": record.confidence.number_standing_out,
    }
    decisive = ("picture_id", "result_id", "record_sha256")
    same = select(answers.c.id).where(*(answers.c[key] == row[key] for key in decisive))
    with database.writing() as connection:
        if connection.execute(same).first():
            return
        answer_id = connection.execute(insert(answers).values(row).returning(answers.c.id)).scalar_one()
        listed = [_row(match, phashes.get(match.id, "")) for match in record.results]
        if listed:
            connection.execute(insert(matches), [{"answer_id": answer_id, **match} for match in listed])


def finding_of(database: Database, picture: Picture) -> Finding | None:
    """A picture's last answer; None where it has none."""
    with database.reading() as connection:
        row = connection.execute(last_answer(picture)).mappings().first()
        return _finding(connection, row) if row else None


def cases_with(database: Database, result_id: str) -> list[str]:
    """The names of the cases that an answer is kept in."""
    rests = (
        select(cases.c.name)
        .join(pictures, pictures.c.case_id == cases.c.id)
        .join(answers, answers.c.picture_id == pictures.c.id)
        .where(answers.c.result_id == result_id)
        .distinct()
        .order_by(cases.c.name)
    )
    with database.reading() as connection:
        return list(connection.execute(rests).scalars())


def phashes_of(database: Database, case: Case) -> dict[str, str]:
    """Perceptual hashes of a case's pictures by SHA-256, and of the training images in their answers by id."""
    listed = (
        select(matches.c.example_id, matches.c.phash)
        .join(answers, answers.c.id == matches.c.answer_id)
        .join(pictures, pictures.c.id == answers.c.picture_id)
        .where(pictures.c.case_id == case.id, matches.c.phash != "")
    )
    with database.reading() as connection:
        own = connection.execute(select(pictures.c.sha256, pictures.c.phash).where(pictures.c.case_id == case.id))
        return {name: phash for rows in (own.all(), connection.execute(listed).all()) for name, phash in rows}


def last_answer(picture: Picture) -> Select[Any]:
    """The row of a picture's last answer."""
    return select(answers).where(answers.c.picture_id == picture.id).order_by(answers.c.id.desc()).limit(1)


def _finding(connection: Connection, row: RowMapping) -> Finding:
    columns = [matches.c[name] for name in FoundMatch.__dataclass_fields__]
    listed = connection.execute(select(*columns).where(matches.c.answer_id == row["id"]).order_by(matches.c.rank))
    kept = {name: row[name] for name in Finding.__dataclass_fields__ if name != "matches"}
    return Finding(**kept, matches=tuple(FoundMatch(*match) for match in listed))


def _row(match: Match, phash: str) -> dict[str, Any]:
    best, worst = match.rank_range
    values = {name: getattr(match, name) for name in FROM_MATCH}
    texts = {name: storable(value) for name, value in values.items() if isinstance(value, str)}
    return {**values, **texts, "example_id": match.id, "phash": phash, "best_rank": best, "worst_rank": worst}
