"""`metadata.jsonl`: one JSON object a line, as the image folders of Hugging Face's datasets have it.

Lines end with a line feed alone: JSON may hold the other characters that Unicode calls line ends.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import InvalidRequest
from .protocol import Listing, Row
from .texts import decoded, objects_only, parsed_json

NAME = METADATA = "metadata.jsonl"
ORDER = 10


def listing(folder: Path) -> Listing | None:
    if not (folder / METADATA).is_file():
        return None
    name = f"{folder.name}/{METADATA}"
    lines = decoded((folder / METADATA).read_bytes(), name).split("\n")
    if lines[0].strip() == "[":
        raise InvalidRequest(f"“{name}” holds one JSON list, not an object a line. Name it metadata.json.")
    rows = [
        Row(f"line {number}", objects_only(parsed_json(line, f"“{name}” line {number}"), f"“{name}” line {number}"))
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    return Listing(METADATA, tuple(rows))
