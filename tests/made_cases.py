"""Cases made by hand: small pictures, and answers about them that no model gave."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from made_records import match, record
from PIL import Image

from forwardinf.records.record import Match
from forwardinf.records.store import FolderStore, Result
from forwardinf.review.cases import Case, Given, Picture, add_pictures, load_case, pictures_of
from forwardinf.review.database import Database
from forwardinf.review.findings import keep_answer

CASE = "Ada v. Machine"


def png(number: int = 0) -> bytes:
    """A picture of stripes; no two numbers below 9 give near-duplicates."""
    picture = Image.new("L", (32, 32))
    across, down = number % 3 + 1, number // 3 + 1
    picture.putdata([255 * ((x * across + y * down) // 8 % 2) for y in range(32) for x in range(32)])
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def given(*numbers: int, prompt: str = "") -> list[Given]:
    return [Given(f"{number}.png", png(number), prompt) for number in numbers]


def opened(folder: Path) -> Database:
    return Database.open(folder / "review.sqlite")


def made_case(database: Database, *numbers: int, name: str = CASE) -> tuple[Case, list[Picture]]:
    """A case of the pictures with these numbers."""
    add_pictures(database, name, given(*(numbers or (0,))))
    case = load_case(database, name)
    return case, pictures_of(database, case)


def answer(
    database: Database,
    store: FolderStore,
    picture: Picture,
    *results: Match,
    phashes: dict[str, str] | None = None,
    **changes: Any,
) -> Result:
    """Keep an answer about a picture, by default of the one training image that made records are about.

    `changes` are those of the record.
    """
    asked = {"sha256": picture.sha256, "prompt": picture.prompt, "file_name": picture.file_name}
    made = record(*(results or (match(),)), query=asked, **changes)
    result = store.save(made, "id,rank\r\nopenmoji-1,1\r\n", png(int(picture.file_name[0])), png(0))
    keep_answer(database, picture, result, phashes or {})
    return result
