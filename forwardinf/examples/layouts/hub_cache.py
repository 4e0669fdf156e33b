"""A data set in the Hub's cache: snapshots of commits, whose files are links, and refs that name one of them.

What refs/main names is read, by whichever layout knows it. Nothing is downloaded.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ...errors import InvalidRequest, MissingAsset
from .protocol import Listing

NAME = "a data set of the Hub's cache"
ORDER = 5
SNAPSHOTS, MAIN = "snapshots", "refs/main"
_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


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


def located(folder: Path) -> Path:
    """The folder itself; where there is none, the data set OWNER/NAME of that name in the Hub's cache.

    Raises MissingAsset saying what downloads it, where it is not there.
    """
    written = folder.as_posix()
    if folder.exists() or not _ID.fullmatch(written):
        return folder
    from huggingface_hub import constants

    cached = Path(constants.HF_HUB_CACHE) / f"datasets--{written.replace('/', '--')}"
    if not cached.is_dir():
        raise MissingAsset(
            f"There is neither a folder “{written}” nor a data set of that name in the Hub's cache. Download it: "
            f"hf download {written} --repo-type dataset"
        )
    return cached


def _commit(folder: Path) -> str:
    path = folder / MAIN
    return Path(path.read_text(encoding="utf-8", errors="replace").strip()).name if path.is_file() else ""
