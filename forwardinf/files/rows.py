"""Vectors that are the same for every query, kept in one file each kind, a row per training image."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DamagedAsset
from .atomic import writing

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class RowCache:
    """Rows of float32 on disk; one is there when it holds nothing but numbers, so that a torn one is not taken."""

    rows: np.ndarray  # [n f], memory-mapped; not-a-number where nothing was written

    @classmethod
    def open(cls, path: Path, count: int, width: int) -> RowCache:
        """The file at `path`, made aside and renamed where there is none.

        Raises DamagedAsset for another shape, OSError where there is no room for it on the disk.
        """
        import numpy as np
        from numpy.lib.format import open_memmap

        if not path.is_file():
            with writing(path) as aside:
                empty = open_memmap(aside, "w+", np.float32, (count, width))
                _take_room(aside)
                empty[:] = np.nan
                empty.flush()
        try:
            rows = open_memmap(path, "r+")
        except ValueError as error:
            raise DamagedAsset(f"The cache “{path.name}” cannot be read. Remove it; it is made again.") from error
        if rows.shape != (count, width) or rows.dtype != np.float32:
            raise DamagedAsset(f"The cache “{path.name}” has another shape. Remove it; it is made again.")
        return cls(rows)

    def get(self, row: int) -> np.ndarray | None:
        """The row `[f]`, or None where it was not written yet."""
        import numpy as np

        kept = np.array(self.rows[row])
        return kept if np.isfinite(kept).all() else None

    def put(self, row: int, values: np.ndarray) -> None:
        self.rows[row] = values


def _take_room(path: Path) -> None:
    """Have the disk set aside all of a file; writing to a mapped one that has no room would end the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
