"""What an index lacks: of a folder's images, and of what can be added to an index later."""

from __future__ import annotations

from collections.abc import Sequence

from ..examples.belonging import AGREES, DIFFERS, Comparison
from ..examples.catalog import Catalog
from .store import Index

MISSING = "missing"
SHOWN = 5  # images that are named


def missing_from(index: Index, catalog: Catalog) -> list[Comparison]:
    """An index against the folder that it should hold the images of, and what it can do without."""
    kept, there = index.catalog.by_id, catalog.by_id
    differing = [name for name, image in there.items() if name in kept and kept[name].sha256 != image.sha256]
    worded = [name for name, image in there.items() if name in kept and kept[name].caption != image.caption]
    parts = {
        "not in the index": [name for name in there if name not in kept],
        "not in the folder": [name for name in kept if name not in there],
        "with another picture": differing,
        "with another caption": worded,
    }
    told = "; ".join(f"{len(names):,} {what} ({_listed(names)})" for what, names in parts.items() if names)
    add = ": `index add` takes them" if parts["not in the index"] else ""
    images = Comparison("images", DIFFERS if told else AGREES, f"{told}{add}" if told else f"{len(kept):,}, the same")
    return [images, _null(index), _sketches(index)]


def _null(index: Index) -> Comparison:
    if index.null_changes is None:
        return Comparison("null", MISSING, "so answers cannot say what stands out: `index build` measures it")
    return Comparison("null", AGREES, f"{len(index.null_changes.queries):,} null pictures")


def _sketches(index: Index) -> Comparison:
    if not index.is_sketched:
        return Comparison("sketches", MISSING, "so answers weigh every image: `index build` makes them")
    return Comparison("sketches", AGREES, "answers begin with the likely images")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"“{name}”" for name in names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
