"""What people decide of a picture or of one of its matches: appended to the case's chain, never changed."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Connection, insert, select

from ..errors import InvalidRequest
from .cases import Case, Picture
from .chain import VERDICTS, WITHDRAWN, Decision, Verdict, first_link, head_of, linked, standing
from .database import Database, now, storable
from .findings import last_answer
from .schema import cases, decisions, matches

LONGEST_REASON = 10_000  # characters
_COLUMNS = {"match": "example_id", "at": "decided_at", "result": "result_id", "record": "record_sha256"}


def decide(
    database: Database,
    case: Case,
    picture: Picture,
    verdict: str,
    *,
    reason: str,
    author: str,
    match: str | None = None,
    seen: str | None = None,
) -> Decision:
    """Record what `author` decides of a picture, or of one `match` (the id of a training image) in its last answer.

    On disk when this returns. It takes the place of what the author decided of the same before. `seen` is the id of the
    answer that the author has before them, empty for none. Raises InvalidRequest for a verdict that is none, without an
    author or a reason, for a match that is not in the answer, and where there is a later answer than the one `seen`.
    """
    if verdict not in VERDICTS:
        raise InvalidRequest(f"“{verdict}” is no verdict. Use one of: {', '.join(VERDICTS)}.")
    with database.writing() as connection:
        result, record = _answer_of(connection, picture, match)
        if seen is not None and seen != result:
            raise InvalidRequest(
                f"Picture {picture.number} was answered anew meanwhile. Load the page again and decide."
            )
        return _append(
            connection,
            case,
            {"picture": picture.sha256, "match": match, "result": result, "record": record},
            {"verdict": cast(Verdict, verdict), "withdraws": None, **_signed(reason, author)},
        )


def withdraw(database: Database, case: Case, number: int, *, reason: str, author: str) -> Decision:
    """Take a decision back by a further one, so that its author has decided nothing of its subject.

    Raises InvalidRequest where there is no such decision, it is another author's, or no longer stands.
    """
    signed = _signed(reason, author)
    with database.writing() as connection:
        chain = _chain(connection, case)
        taken = next((one for one in chain if one.number == number), None)
        if taken is None:
            raise InvalidRequest(f"“{case.name}” has no decision {number}. `forwardinf case log` lists them.")
        if taken.author != signed["author"]:
            raise InvalidRequest(
                f"Decision {number} is by {taken.author}, who alone can withdraw it. Record one of your own instead."
            )
        if taken not in standing(chain).values():
            raise InvalidRequest(f"Decision {number} does not stand any more, so it cannot be withdrawn.")
        about = {"picture": taken.picture, "match": taken.match, "result": taken.result, "record": taken.record}
        return _append(connection, case, about, {"verdict": WITHDRAWN, "withdraws": number, **signed})


def decisions_of(database: Database, case: Case) -> list[Decision]:
    """All decisions of a case in their order, withdrawn ones too; raises DamagedAsset where the chain is broken."""
    with database.reading() as connection:
        chain = _chain(connection, case)
    head_of(case.name, case.created_at, chain)
    return chain


def _append(connection: Connection, case: Case, about: dict[str, Any], said: dict[str, Any]) -> Decision:
    """Link a decision to the last one; writers of one case take turns."""
    connection.execute(select(cases.c.id).where(cases.c.id == case.id).with_for_update())
    last = connection.execute(
        select(decisions.c.number, decisions.c.hash)
        .where(decisions.c.case_id == case.id)
        .order_by(decisions.c.number.desc())
        .limit(1)
    ).first()
    number, former = (last.number, last.hash) if last else (0, first_link(case.name, case.created_at))
    decision = linked(former, {"number": number + 1, "at": now(), **about, **said})
    row = {_COLUMNS.get(name, name): value for name, value in decision.as_json().items()}
    connection.execute(insert(decisions).values(case_id=case.id, **{**row, "example_id": decision.match or ""}))
    return decision


def _chain(connection: Connection, case: Case) -> list[Decision]:
    columns = [decisions.c[_COLUMNS.get(name, name)].label(name) for name in Decision.__dataclass_fields__]
    rows = connection.execute(select(*columns).where(decisions.c.case_id == case.id).order_by(decisions.c.number))
    return [Decision(**{**row, "match": row["match"] or None}) for row in rows.mappings()]


def _answer_of(connection: Connection, picture: Picture, match: str | None) -> tuple[str, str]:
    """The id and the record's SHA-256 of a picture's last answer, which has `match` where one is named."""
    last = connection.execute(last_answer(picture)).first()
    if match is None:
        return (last.result_id, last.record_sha256) if last else ("", "")
    if last is None:
        raise InvalidRequest(
            f"Picture {picture.number} has no answer yet, so there is no match to decide on. Run the case first."
        )
    listed = connection.execute(select(matches.c.example_id).where(matches.c.answer_id == last.id)).scalars().all()
    if match not in listed:
        raise InvalidRequest(
            f"“{match}” is not among the {len(listed)} matches of picture {picture.number} ({picture.file_name}). "
            "`forwardinf case show --picture` lists them."
        )
    return last.result_id, last.record_sha256


def _signed(reason: str, author: str) -> dict[str, str]:
    reason, author = storable(reason), storable(author)
    if not author:
        raise InvalidRequest("A decision needs an author. Say who decides.")
    if not reason:
        raise InvalidRequest("A decision needs a reason. Say in a sentence what it rests on.")
    if len(reason) > LONGEST_REASON or len(author) > 200:
        raise InvalidRequest(f"A reason has at most {LONGEST_REASON:,} characters, an author’s name 200. Shorten it.")
    return {"reason": reason, "author": author}
