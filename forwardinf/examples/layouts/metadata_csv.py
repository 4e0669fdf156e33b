"""`metadata.csv`: a line of keys, then one line per picture; commas, semicolons or tabs between values (RFC 4180)."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ...errors import InvalidRequest
from .protocol import Listing, Row
from .texts import decoded

NAME = METADATA = "metadata.csv"
ORDER = 30
DELIMITERS = (",", ";", "\t")


def listing(folder: Path) -> Listing | None:
    if not (folder / METADATA).is_file():
        return None
    name = f"{folder.name}/{METADATA}"
    text = decoded((folder / METADATA).read_bytes(), name)
    head = text.split("\n", 1)[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=head.count), strict=True)
    rows: list[Row] = []
    try:
        keys = _keys(next(lines, []), name)
        begins = lines.line_num + 1
        for cells in lines:
            if cells and len(cells) != len(keys):
                raise InvalidRequest(
                    f"“{name}” line {begins} has {len(cells)} values for {len(keys)} keys. "
                    "Put quotes around a value that has a comma in it."
                )
            if cells:  # a value that is not there is none, as null is
                rows.append(Row(f"line {begins}", dict(zip(keys, [cell or None for cell in cells], strict=True))))
            begins = lines.line_num + 1
    except csv.Error as error:
        raise InvalidRequest(f"“{name}” line {lines.line_num} is not CSV: {error}.") from error
    return Listing(METADATA, tuple(rows))


def _keys(cells: list[str], name: str) -> list[str]:
    keys = [cell.strip() for cell in cells]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise InvalidRequest(f"“{name}” line 1 has the key “{twice[0]}” twice. Rename or remove one of them.")
    return keys
