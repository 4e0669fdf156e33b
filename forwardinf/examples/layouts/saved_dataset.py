"""A folder that `save_to_disk` of Hugging Face's datasets wrote: Arrow files, and state.json, which lists them.

A DatasetDict has such a folder for each split, and dataset_dict.json.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from ...errors import InvalidRequest
from .protocol import Listing
from .tables import Part, has_paths, listing_of, picture_column, text_columns
from .texts import decoded, objects_only, parsed_json

NAME = "a folder of save_to_disk"
ORDER = 50
STATE, SPLITS = "state.json", "dataset_dict.json"


def listing(folder: Path) -> Listing | None:
    if (folder / SPLITS).is_file():
        splits = _json(folder, SPLITS).get("splits")
        names = [f"{split}/" for split in splits] if isinstance(splits, list) else []
    elif (folder / STATE).is_file() and any(folder.glob("*.arrow")):
        names = [""]
    else:
        return None
    parts = [_part(folder, name) for below in names for name in _files(folder, below)]
    return listing_of(folder, parts, SPLITS if names != [""] else STATE)


def _files(folder: Path, below: str) -> list[str]:
    """The Arrow files of a dataset, in the order of its rows."""
    state = _json(folder, f"{below}{STATE}")
    try:
        return [f"{below}{file['filename']}" for file in state["_data_files"]]
    except (TypeError, KeyError) as error:
        raise InvalidRequest(f"“{folder.name}/{below}{STATE}” lists no data files (_data_files).") from error


def _json(folder: Path, name: str) -> dict:
    where = f"{folder.name}/{name}"
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"“{where}” cannot be opened: {error.strerror}. Save the data set again.") from error
    return objects_only(parsed_json(decoded(content, where), f"“{where}”"), f"“{where}”")


def _part(folder: Path, name: str) -> Part:
    """A file of rows, mapped into memory, of which only what is asked for is read."""
    try:
        rows = pa.ipc.open_stream(pa.memory_map(str(folder / name))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise InvalidRequest(
            f"“{folder.name}/{name}” cannot be read as an Arrow stream. It may be damaged or cut short; save the data "
            "set again."
        ) from error
    pictures = picture_column(rows.schema, name)
    texts = rows.select(text_columns(rows.schema))
    if pictures is None:
        return Part(name, texts, None, lambda number: None)
    column = rows.column(pictures)
    if not pa.types.is_struct(column.type):
        return Part(name, texts, pictures, lambda number: column[number].as_py())
    if has_paths(rows.schema, pictures):
        texts = texts.append_column(pictures, pa.chunked_array([chunk.field("path") for chunk in column.chunks]))
    return Part(name, texts, pictures, lambda number: column[number]["bytes"].as_py())
