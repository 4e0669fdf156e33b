"""The pictures of a case as a reviewer goes through them: filtered, searched, sorted, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Column, ColumnElement, Select, and_, func, or_, select

from ..errors import InvalidRequest
from .cases import PICTURE_COLUMNS, Case, Picture
from .chain import VERDICTS, WITHDRAWN, Decision, standing
from .database import Database
from .decisions import decisions_of
from .schema import answers, decisions, matches, pictures

Status = Literal["all", "unanswered", "undecided", "decided", "stands out"]
Order = Literal["number", "score", "similarity", "name"]
STATUSES: tuple[str, ...] = get_args(Status)
ORDERS: tuple[str, ...] = get_args(Order)
FOUND: dict[str, Column[Any]] = {  # what a line says of a picture's last answer
    "machine": answers.c.verdict,
    "index_fingerprint": answers.c.index_fingerprint,
    "best": matches.c.example_id,
    "best_caption": matches.c.caption,
    "best_creator": matches.c.creator,
    "best_score": matches.c.score,
    "best_similarity": matches.c.similarity,
    "number_standing_out": answers.c.number_standing_out,
}


@dataclass(frozen=True)
class Wanted:
    """Which pictures of a case, in which order; raises InvalidRequest for a choice that there is not."""

    status: str = "all"  # decided: as a whole
    verdict: str | None = None  # that somebody's decision on the picture, or on a match of it, has
    search: str = ""  # in names, prompts, and the captions, creators and licences of matches
    order: str = "number"
    author: str | None = None  # whose decisions count; None for anybody's

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, str | None, Sequence[str]], ...] = (
            ("status", self.status, STATUSES),
            ("verdict", self.verdict, VERDICTS),
            ("order", self.order, ORDERS),
        )
        for name, value, allowed in choices:
            if value is not None and value not in allowed:
                raise InvalidRequest(f"“{value}” is no {name} of pictures. Use one of: {', '.join(allowed)}.")


@dataclass(frozen=True)
class Line:
    """A picture of a case: what the machine says beside what people decided, which are never mixed."""

    picture: Picture
    machine: str | None  # the verdict on the last answer; None without one
    index_fingerprint: str | None  # of the index that it is about
    best: str | None  # id of the best match
    best_caption: str | None
    best_creator: str | None
    best_score: float | None
    best_similarity: float | None
    number_standing_out: int | None
    people: tuple[Decision, ...]  # that stand, on the picture as a whole and on its matches


def lines_of(database: Database, case: Case, wanted: Wanted | None = None) -> list[Line]:
    """The pictures of a case that are wanted."""
    stand = standing(decisions_of(database, case)).values()
    with database.reading() as connection:
        rows = connection.execute(_query(case, wanted or Wanted())).all()
    lines = []
    for row in rows:
        picture = Picture(*row[: len(PICTURE_COLUMNS)])
        found = {name: row._mapping[name] for name in FOUND}
        lines.append(Line(picture, people=tuple(one for one in stand if one.picture == picture.sha256), **found))
    return lines


def next_undecided(database: Database, case: Case, author: str | None = None, after: int = 0) -> Line | None:
    """The first picture after number `after` of which `author` (or nobody) decided nothing as a whole.

    It goes on from the first picture; None where everything is decided.
    """
    lines = lines_of(database, case, Wanted("undecided", author=author))
    return next((line for line in lines if line.picture.number > after), lines[0] if lines else None)


def _query(case: Case, wanted: Wanted) -> Select[Any]:
    of_picture = answers.alias("of_picture")
    last = select(func.max(of_picture.c.id)).where(of_picture.c.picture_id == pictures.c.id).scalar_subquery()
    joined = pictures.outerjoin(answers, answers.c.id == last).outerjoin(
        matches, and_(matches.c.answer_id == answers.c.id, matches.c.rank == 1)
    )
    found = (column.label(name) for name, column in FOUND.items())
    query = select(*PICTURE_COLUMNS, *found).select_from(joined)
    orders: dict[str, ColumnElement[Any]] = {
        "number": pictures.c.number.asc(),
        "score": func.coalesce(matches.c.score, float("-1e300")).desc(),
        "similarity": func.coalesce(matches.c.similarity, -2.0).desc(),
        "name": func.lower(pictures.c.file_name).asc(),
    }
    query = query.where(pictures.c.case_id == case.id).order_by(orders[wanted.order], pictures.c.number)
    return query.where(*_conditions(case, wanted))


def _conditions(case: Case, wanted: Wanted) -> list[ColumnElement[bool]]:
    decided = _decided(case, wanted.author)
    as_whole = decided.where(decisions.c.example_id == "").exists()
    by_status: dict[str, list[ColumnElement[bool]]] = {
        "all": [],
        "unanswered": [answers.c.id.is_(None)],
        "undecided": [~as_whole],
        "decided": [as_whole],
        "stands out": [answers.c.number_standing_out > 0],
    }
    conditions = by_status[wanted.status]
    if wanted.verdict:
        conditions.append(decided.where(decisions.c.verdict == wanted.verdict).exists())
    if wanted.search.strip():
        conditions.append(_containing(wanted.search.strip()))
    return conditions


def _decided(case: Case, author: str | None) -> Select[Any]:
    """The decisions on a picture that stand: those that nothing of the same author on the same subject came after."""
    later = decisions.alias("later")
    same = (decisions.c.case_id, decisions.c.picture, decisions.c.example_id, decisions.c.author)
    replaced = select(later.c.id).where(
        *(later.c[column.name] == column for column in same), later.c.number > decisions.c.number
    )
    stands = select(decisions.c.id).where(
        decisions.c.case_id == case.id,
        decisions.c.picture == pictures.c.sha256,
        decisions.c.verdict != WITHDRAWN,
        ~replaced.exists(),
    )
    return stands.where(decisions.c.author == author) if author else stands


def _containing(text: str) -> ColumnElement[bool]:
    listed = matches.alias("listed")
    credits = (listed.c.caption, listed.c.creator, listed.c.licence, listed.c.collection)
    named = or_(*(column.icontains(text, autoescape=True) for column in credits))
    in_matches = select(listed.c.rank).where(listed.c.answer_id == answers.c.id, named).exists()
    own = (pictures.c.file_name, pictures.c.prompt)
    return or_(*(column.icontains(text, autoescape=True) for column in own), in_matches)
