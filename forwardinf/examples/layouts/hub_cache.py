"""A data set in the Hub's cache: snapshots of commits, whose files are links, and refs that name one of them.

What refs/main names is read, by whichever layout knows it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...errors import InvalidRequest
from .protocol import Listing

NAME = "a data set of the Hub's cache"
ORDER = 5
SNAPSHOTS, MAIN = "snapshots", "refs/main"


def listing(folder: Path) -> Listing | None:
    from .registry import find_listing

    if not (folder / SNAPSHOTS).is_dir() or not (folder / "refs").is_dir():
        return None
    commit = _commit(folder)
    below = f"{SNAPSHOTS}/{commit}"
    if not commit or not (folder / below).is_dir():
        there = ", ".join(sorted(path.name for path in (folder / SNAPSHOTS).iterdir())) or "none"
        raise InvalidRequest(
            f"“{folder.name}” has no snapshot for {MAIN}; there are: {there}. Name one of these folders, or download "
            "the data set again."
        )
    found = find_listing(folder / below)
    return replace(found, below=below, notes=(f"snapshot {commit[:12]}", *found.notes))


def _commit(folder: Path) -> str:
    path = folder / MAIN
    return Path(path.read_text(encoding="utf-8", errors="replace").strip()).name if path.is_file() else ""
