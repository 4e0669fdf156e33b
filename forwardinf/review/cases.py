"""Cases and the pictures that they hold, each by a number within its case."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select

from ..errors import InvalidRequest, MissingAsset, UnreadablePicture
from ..examples.decoding import read_picture
from .database import Database, now, storable
from .schema import answers, cases, decisions, originals, pictures

LONGEST_NAME = 80
PREFIX = 8  # hexadecimal digits of a SHA-256 that name a picture at least


@dataclass(frozen=True)
class Case:
    id: int
    name: str
    created_at: str
    pictures: int = 0
    answered: int = 0
    decisions: int = 0


@dataclass(frozen=True)
class Given:
    """A picture that is to be part of a case."""

    name: str  # of its file
    content: bytes
    prompt: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture of a case."""

    id: int
    number: int  # within the case, from 1
    sha256: str  # of its original bytes
    phash: str  # 64-bit perceptual hash, hexadecimal
    file_name: str
    prompt: str
    added_at: str


PICTURE_COLUMNS = tuple(pictures.c[name] for name in Picture.__dataclass_fields__)


@dataclass(frozen=True)
class Added:
    """What became of the pictures that were given."""

    kept: list[Picture] = field(default_factory=list)
    known: list[str] = field(default_factory=list)  # a sentence for each that the case has already
    refused: list[str] = field(default_factory=list)  # why, for each that cannot be read


def checked_name(name: str) -> str:
    """The name of a case as it is kept; raises InvalidRequest for one that no file could be named after."""
    name = unicodedata.normalize("NFC", name.strip())
    if not name or len(name) > LONGEST_NAME or not re.fullmatch(r"\w[\w .,()+-]*", name) or name.endswith("."):
        shown = "".join(character if character.isprintable() else "�" for character in name)[:LONGEST_NAME]
        raise InvalidRequest(
            f"A case cannot be named “{shown}”. Use 1 to {LONGEST_NAME} letters, digits, spaces and . , ( ) + - _, "
            "beginning with a letter or a digit."
        )
    return name


def add_pictures(database: Database, case: str, given: Iterable[Given]) -> Added:
    """Add pictures to a case, which is begun with the first one that can be read.

    Each is kept whole, with its original bytes, or not at all. What cannot be read is named, and the others are kept.
    """
    name, added = checked_name(case), Added()
    for one in given:
        try:
            phash = _perceptual_hash(one)
        except UnreadablePicture as refusal:
            added.refused.append(str(refusal))
            continue
        with database.writing() as connection:
            kept, new = _add(connection, name, one, phash)
        if new:
            added.kept.append(kept)
        else:
            prompt = "" if kept.prompt == storable(one.prompt) else f" Its prompt there, “{kept.prompt}”, stays."
            added.known.append(f"“{storable(one.name)}” is picture {kept.number} of the case already.{prompt}")
    return added


def list_cases(database: Database) -> list[Case]:
    """All cases, by name."""
    with database.reading() as connection:
        return [_case(row) for row in connection.execute(_with_counts().order_by(cases.c.name))]


def begin_case(database: Database, name: str) -> Case:
    """A new case without pictures; raises InvalidRequest where there is one of that name."""
    name = checked_name(name)
    with database.writing() as connection:
        if connection.execute(select(cases.c.id).where(cases.c.name == name)).first():
            raise InvalidRequest(f"There is a case “{name}” already. Open it, or choose another name.")
        connection.execute(insert(cases).values(name=name, created_at=now()))
    return load_case(database, name)


def numbered_case(database: Database, case_id: int) -> Case:
    """The case with this number in the database; raises MissingAsset where there is none."""
    with database.reading() as connection:
        row = connection.execute(_with_counts().where(cases.c.id == case_id)).first()
    if row is None:
        raise MissingAsset(f"There is no case with the number {case_id}.")
    return _case(row)


def load_case(database: Database, name: str) -> Case:
    """The case of a name; raises MissingAsset where there is none."""
    with database.reading() as connection:
        row = connection.execute(_with_counts().where(cases.c.name == checked_name(name))).first()
    if row is None:
        raise MissingAsset(f"There is no case “{name}”. `forwardinf case list` lists those that there are.")
    return _case(row)


def pictures_of(database: Database, case: Case) -> list[Picture]:
    """All pictures of a case, by number."""
    with database.reading() as connection:
        rows = connection.execute(_pictures().where(pictures.c.case_id == case.id).order_by(pictures.c.number))
        return [Picture(*row) for row in rows]


def numbered_picture(database: Database, case: Case, number: int) -> Picture:
    """The picture with this number in a case; raises MissingAsset where there is none."""
    with database.reading() as connection:
        chosen = _pictures().where(pictures.c.case_id == case.id, pictures.c.number == number)
        row = connection.execute(chosen).first()
    if row is None:
        raise MissingAsset(f"“{case.name}” has no picture {number}.")
    return Picture(*row)


def find_picture(database: Database, case: Case, which: str) -> Picture:
    """The picture that a number, a file name or the beginning of a SHA-256 names; raises InvalidRequest."""
    named = [
        picture
        for picture in pictures_of(database, case)
        if which in (str(picture.number), picture.file_name)
        or (len(which) >= PREFIX and picture.sha256.startswith(which.lower()))
    ]
    if len(named) != 1:
        many = f"{len(named)} pictures" if named else "no picture"
        raise InvalidRequest(
            f"“{which}” names {many} of “{case.name}”. Give the number, the file name or the first {PREFIX} digits of "
            "the SHA-256, as `forwardinf case show` lists them."
        )
    return named[0]


def original_of(database: Database, sha256: str) -> bytes:
    """The bytes of a picture as they arrived."""
    with database.reading() as connection:
        content: bytes = connection.execute(
            select(originals.c.content).where(originals.c.sha256 == sha256)
        ).scalar_one()
    return content


def _perceptual_hash(given: Given) -> str:
    import imagehash

    return str(imagehash.phash(read_picture(given.content, name=given.name).rgb))


def _add(connection: Connection, name: str, given: Given, phash: str) -> tuple[Picture, bool]:
    """The picture as the case keeps it, and whether it is new there."""
    case_id = connection.execute(select(cases.c.id).where(cases.c.name == name).with_for_update()).scalar()
    if case_id is None:
        begun = insert(cases).values(name=name, created_at=now()).returning(cases.c.id)
        case_id = connection.execute(begun).scalar_one()
    sha256 = hashlib.sha256(given.content).hexdigest()
    known = connection.execute(_pictures().where(pictures.c.case_id == case_id, pictures.c.sha256 == sha256)).first()
    if known:
        return Picture(*known), False
    if connection.execute(select(originals.c.sha256).where(originals.c.sha256 == sha256)).first() is None:
        connection.execute(insert(originals).values(sha256=sha256, content=given.content))
    last = connection.execute(select(func.max(pictures.c.number)).where(pictures.c.case_id == case_id)).scalar() or 0
    named = {"file_name": storable(given.name), "prompt": storable(given.prompt)}
    row = {"number": last + 1, "sha256": sha256, "phash": phash, **named, "added_at": now()}
    kept = insert(pictures).values(case_id=case_id, **row).returning(*PICTURE_COLUMNS)
    return Picture(*connection.execute(kept).one()), True


def _pictures() -> Select[Any]:
    return select(*PICTURE_COLUMNS)


def _with_counts() -> Select[Any]:
    """Cases with how many pictures they hold, how many of these have an answer, and how many decisions there are."""
    held = select(func.count()).where(pictures.c.case_id == cases.c.id)
    answered = held.where(select(answers.c.id).where(answers.c.picture_id == pictures.c.id).exists())
    decided = select(func.count(decisions.c.id)).where(decisions.c.case_id == cases.c.id)
    counts = {"pictures": held, "answered": answered, "decisions": decided}
    labelled = (count.scalar_subquery().label(name) for name, count in counts.items())
    return select(cases.c.id, cases.c.name, cases.c.created_at, *labelled)


def _case(row: Row[Any]) -> Case:
    return Case(**row._mapping)
