"""Parquet files, in the folder and those below it: pictures as bytes, or as paths below the folder."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import InvalidRequest
from .protocol import Listing
from .tables import Part, has_paths, listing_of, picture_column, text_columns

NAME = "*.parquet"
ORDER = 60


def listing(folder: Path) -> Listing | None:
    paths = sorted(path for path in folder.rglob(NAME) if path.is_file())
    return listing_of(folder, [_part(folder, path) for path in paths], NAME)


def _part(folder: Path, path: Path) -> Part:
    name = path.relative_to(folder).as_posix()
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        pictures = picture_column(schema, name)
        paths = [f"{pictures}.path"] if has_paths(schema, pictures) else []
        texts = file.read(columns=text_columns(schema) + paths)
    except (pa.ArrowException, OSError) as error:
        raise InvalidRequest(f"“{name}” cannot be read as Parquet. It may be damaged or cut short.") from error
    ends = list(accumulate(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)))
    return Part(name, texts, pictures, partial(_picture, path, pictures or "", ends))


def _picture(path: Path, column: str, ends: list[int], number: int) -> bytes | None:
    group = bisect_right(ends, number)
    value = _row_group(path, group, column)[number - ends[group]].as_py()
    return value["bytes"] if isinstance(value, dict) else value


@lru_cache(maxsize=2)
def _row_group(path: Path, group: int, column: str) -> pa.ChunkedArray:
    return pq.ParquetFile(path).read_row_group(group, columns=[column]).column(0)
