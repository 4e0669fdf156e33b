"""`metadata.json`: a list of objects, or one object that gives, by file name, an object or the caption alone."""

from __future__ import annotations

from pathlib import Path

from ...errors import InvalidRequest
from .keys import ALIASES
from .protocol import Listing, Row
from .texts import decoded, kind_of, objects_only, parsed_json

NAME = METADATA = "metadata.json"
ORDER = 20


def listing(folder: Path) -> Listing | None:
    if not (folder / METADATA).is_file():
        return None
    name = f"{folder.name}/{METADATA}"
    content = parsed_json(decoded((folder / METADATA).read_bytes(), name), f"“{name}”")
    if isinstance(content, list):
        entries = [(f"entry {number}", value) for number, value in enumerate(content, 1)]
        rows = [Row(where, objects_only(value, f"“{name}” {where}")) for where, value in entries]
    elif isinstance(content, dict):
        rows = [_by_file_name(file_name, value, name) for file_name, value in content.items()]
    else:
        raise InvalidRequest(f"“{name}” is {kind_of(content)}, not a list of objects or an object of file names.")
    return Listing(METADATA, tuple(rows))


def _by_file_name(file_name: str, value: object, name: str) -> Row:
    where = f"entry “{file_name}”"
    if value is None or isinstance(value, str):
        return Row(where, {"file_name": file_name, "text": value})
    fields = objects_only(value, f"“{name}” {where}")
    if named := [key for key in ALIASES["file_name"] if fields.get(key, file_name) != file_name]:
        raise InvalidRequest(f"“{name}” {where} names another file as “{named[0]}”. Remove one of the names.")
    return Row(where, {key: value for key, value in fields.items() if key != "file_name"} | {"file_name": file_name})
