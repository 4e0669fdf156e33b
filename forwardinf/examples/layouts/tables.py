"""Rows of Arrow tables, one column of which may hold the pictures' files, as Hugging Face's datasets write them."""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import pyarrow as pa

from ...errors import InvalidRequest
from .keys import ALIASES
from .protocol import Listing, Row

# What a part of a file's name says of its rows: whether a model was trained on them.
_SPLITS = {"train": "train"} | dict.fromkeys(("validation", "valid", "val", "dev", "test", "eval", "held"), "held_out")


@dataclass(frozen=True)
class Part:
    """A file of rows."""

    name: str  # below the folder
    texts: pa.Table  # every column but pictures; of those the `path`, where they have one
    pictures: str | None  # the column that holds pictures' files
    read: Callable[[int], bytes | None]  # the picture's file of a row; None where the row has its path alone


def picture_column(schema: pa.Schema, name: str) -> str | None:
    """The column with pictures' files: bytes, or a struct of `bytes` and `path`; None where there is none.

    Raises InvalidRequest where it could be several.
    """
    found = [field.name for field in schema if _holds_files(field.type)]
    usual = [column for column in found if column in ALIASES["file_name"]]
    if len(found) > 1 and len(usual) != 1:
        raise InvalidRequest(
            f"“{name}” has several columns of bytes ({', '.join(found)}), so it is not known which are the pictures. "
            "Name that one image, and no other."
        )
    return (usual or found or [None])[0]


def text_columns(schema: pa.Schema) -> list[str]:
    """The columns without bytes."""
    return [field.name for field in schema if not _holds_files(field.type)]


def has_paths(schema: pa.Schema, pictures: str | None) -> bool:
    """Whether a path is stored with each picture."""
    kind = schema.field(pictures).type if pictures else pa.null()
    return pa.types.is_struct(kind) and kind.get_field_index("path") >= 0


def listing_of(folder: Path, parts: Sequence[Part], source: str) -> Listing | None:
    """The rows of all parts; None where there is no part.

    A picture without a column of names is named by the path stored with it, or, where one of these is missing or names
    two pictures, by its file and row.
    """
    if not parts:
        return None
    source = parts[0].name if len(parts) == 1 else source
    stored = [path for part in parts for path in _stored_paths(part)]
    by_path = len(set(stored)) == len(stored) and all(stored)
    rows, splits = list[Row](), Counter[tuple[str, str]]()
    for part in parts:
        split = _split_of(part.name)
        if split and "split" not in part.texts.column_names:
            splits[split] += part.texts.num_rows
        where = "" if len(parts) == 1 else f"{part.name} "
        for number, fields in enumerate(_fields_of(part)):
            if split:
                fields.setdefault("split", split[1])
            rows.append(_row(folder, part, number, fields, by_path, where))
    notes = [f"{count:,} are {split} by the name “{word}”" for (word, split), count in splits.items()]
    return Listing(source, tuple(rows), tuple(notes))


def _row(folder: Path, part: Part, number: int, fields: dict[str, object], by_path: bool, where: str) -> Row:
    place = f"{where}row {number + 1}"
    if part.pictures is None:
        return Row(place, fields)
    path = fields.pop(part.pictures, None)
    if not any(key in fields for key in ALIASES["file_name"]):
        stem = PurePosixPath(part.name).with_suffix("")
        fields["file_name"] = path if by_path else f"{stem}/{number:06}"
    return Row(place, fields, partial(_content, folder, part, number, path))


def _content(folder: Path, part: Part, number: int, path: object) -> bytes:
    try:
        held = part.read(number)
    except (pa.ArrowException, OSError) as error:
        raise OSError(errno.EIO, f"“{part.name}” is damaged") from error
    if held is None and path:
        return (folder / str(path)).read_bytes()
    return held or b""


def _fields_of(part: Part) -> Iterator[dict[str, object]]:
    """Every row's values; of a picture's struct, its path."""
    for batch in part.texts.to_batches():
        for fields in batch.to_pylist():
            if part.pictures and isinstance(struct := fields.get(part.pictures), Mapping):
                fields[part.pictures] = struct.get("path")
            yield fields


def _stored_paths(part: Part) -> Iterator[str]:
    """The path of each picture where it can name it below the folder, else an empty text."""
    for fields in _fields_of(part):
        path = str(fields.get(part.pictures or "") or "")
        yield "" if path.startswith(("/", "..")) or ":" in path else path


def _split_of(name: str) -> tuple[str, str] | None:
    """The word in a file's name that says its split, and the split."""
    words = re.findall(r"[a-z]+", name.lower())
    return next(((word, _SPLITS[word]) for word in words if word in _SPLITS), None)


def _holds_files(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
