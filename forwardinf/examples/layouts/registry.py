"""Layouts, found by file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import cast

from ...errors import InvalidRequest, MissingAsset
from .protocol import Layout, Listing


def layouts() -> list[Layout]:
    """Every layout, in the order in which they are tried."""
    modules = [import_module(f"{__package__}.{found.name}") for found in iter_modules([str(Path(__file__).parent)])]
    return sorted((cast(Layout, m) for m in modules if hasattr(m, "listing")), key=lambda layout: layout.ORDER)


def find_listing(folder: Path) -> Listing:
    """What the first layout that knows `folder` reads in it.

    Raises MissingAsset naming the layouts where none does, and InvalidRequest for one that cannot be used.
    """
    if not folder.is_dir():
        raise MissingAsset(f"There is no folder “{folder.name}”.")
    for layout in layouts():
        if found := layout.listing(folder):
            if not found.rows:
                raise InvalidRequest(f"“{folder.name}/{found.source}” names no image.")
            return found
    known = ", ".join(["catalog.parquet", *(layout.NAME for layout in layouts())])
    below = sorted(path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("metadata.*")))
    hint = f" Its subfolder “{below[0]}” has metadata: name that one." if below else ""
    raise MissingAsset(f"“{folder.name}” has nothing that says what its images are: {known}.{hint}")
