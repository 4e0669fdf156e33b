"""What is said of a picture or a training image on licences, authorship and data mining: where, and when it was read.

A signal is what somebody stated. Whether it is true, or binding, is for people to decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import insert, select

from ..errors import ForwardInfError
from ..examples.catalog import Catalog
from ..examples.provenance import Stated, read_statements
from ..records.record import Match, Record
from ..records.text import UNKNOWN
from .database import Database, now, storable
from .schema import signals

SEARCHED = "embedded metadata"  # the name of the signal that a file was searched, with how much was found


@dataclass(frozen=True)
class Signal:
    """Something that is said of a file, which its SHA-256 names."""

    sha256: str
    name: str
    value: str
    read_from: str
    read_at: str


def signals_of(database: Database, *digests: str) -> list[Signal]:
    """What is known of the files with these SHA-256, in the order in which it was read."""
    columns = [signals.c[name] for name in Signal.__dataclass_fields__]
    with database.reading() as connection:
        rows = connection.execute(select(*columns).where(signals.c.sha256.in_(digests)).order_by(signals.c.id))
        return [Signal(*row) for row in rows]


def note(database: Database, sha256: str, stated: Iterable[Stated]) -> None:
    """Keep what is said of a file; what was read from the same place before keeps the time of the first reading."""
    with database.writing() as connection:
        known = select(signals.c.name, signals.c.value, signals.c.read_from).where(signals.c.sha256 == sha256)
        seen = {tuple(row) for row in connection.execute(known)}
        for one in stated:
            row = (storable(one.name), storable(one.value), storable(one.read_from))
            if row not in seen:
                seen.add(row)
                named = dict(zip(("name", "value", "read_from"), row, strict=True))
                connection.execute(insert(signals).values(sha256=sha256, **named, read_at=now()))


def note_answer(database: Database, record: Record, original: bytes, training_images: Catalog | None) -> None:
    """Keep what is said of a query and of the training images that its answer lists.

    Of those the catalog's credits, and where the folder of the training images is at hand what their files say.
    """
    _note_file(database, record.query.sha256, original)
    for match in record.results:
        note(database, match.sha256, _credits(record, match))
        image = training_images.by_id.get(match.id) if training_images else None
        if training_images and image and image.sha256 == match.sha256 and not _is_searched(database, match.sha256):
            try:
                _note_file(database, match.sha256, training_images.read_bytes(image))
            except ForwardInfError as error:
                note(database, match.sha256, [Stated(SEARCHED, f"not searched: {error}", training_images.folder.name)])


def _note_file(database: Database, sha256: str, content: bytes) -> None:
    try:
        found = read_statements(content)
        searched = Stated(SEARCHED, f"{len(found)} statements found", "the file")
    except ForwardInfError as error:
        found, searched = (), Stated(SEARCHED, f"not searched: the file {error}", "the file")
    note(database, sha256, [searched, *found])


def _is_searched(database: Database, sha256: str) -> bool:
    return any(one.name == SEARCHED for one in signals_of(database, sha256))


def _credits(record: Record, match: Match) -> list[Stated]:
    where = f"catalog of the index “{record.index.name}”, {record.index.fingerprint[:12]}"
    named = {
        "creator": match.creator,
        "licence": match.licence,
        "licence text": match.licence_url,
        "source": match.source_url,
        "collection": match.collection,
    }
    return [Stated(name, value, where) for name, value in named.items() if value not in UNKNOWN]
