"""What a layout gives: rows as they are written, before anything of them is checked.

A layout is a module here that defines NAME, what people call it, in messages; ORDER, a number by which layouts are
tried; and `listing(folder) -> Listing | None`, None where the folder is not laid out so. Adding a layout is adding a
file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Row:
    """What is written about one picture, by the keys that its author chose."""

    where: str  # for messages: “line 3”; empty where the picture itself is the only place
    fields: Mapping[str, object]
    # The picture's file, or OSError; None: the one below the folder that the row names.
    read: Callable[[], bytes] | None = None


@dataclass(frozen=True)
class Listing:
    """The rows of a folder in the order in which they are written."""

    source: str  # below the folder, for messages: “metadata.jsonl”
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()  # one clause each, of what a layout concluded beyond what is written
    below: str = ""  # the folder, below the one that was given, that `source` and the names of rows are relative to


class Layout(Protocol):
    NAME: str
    ORDER: int

    def listing(self, folder: Path) -> Listing | None:
        """The rows of a folder laid out so, or None; raises InvalidRequest naming what in it cannot be used."""
        ...
