"""An index whose images are embedded anew, by another embedder; nothing that was measured of them is measured again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import IndexMismatch, InvalidRequest
from ..examples.catalog import Catalog
from ..files.atomic import write_bytes, writing_folder
from ..files.manifest import Manifest
from .finite import require_finite
from .info import INFO, REMEDY
from .neighbours import FILE_NAME as NEIGHBOURS
from .neighbours import write_neighbours
from .null_file import SCORES, SETTINGS
from .store import Index

if TYPE_CHECKING:
    from torch import Tensor

    from ..embedders.protocol import Embedder

AT_ONCE = 64  # pictures


def embed_anew(
    index: Index,
    embedder: Embedder,
    source: Catalog,
    out: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Index:
    """Write a copy of `index` to the new folder `out`, in which similarity is by `embedder`.

    `source` holds the pictures that the index was built from. The copy has no null: pictures without a prompt used the
    captions that the former embedder found. Raises InvalidRequest where `out` is there already, IndexMismatch where the
    pictures are others, NonFinite naming an image, and what reading a picture raises.
    """
    if out.exists():
        raise InvalidRequest(f"“{out.name}” is there already. Name a folder that is not.")
    images = tuple(source.by_id[image.id] for image in index.catalog.images if image.id in source.by_id)
    found = replace(source, images=images)
    if found.sources != index.info.sources:
        raise IndexMismatch(
            f"“{index.folder.name}” was built from other images than “{source.folder.name}” holds: "
            f"{index.catalog.difference(found)}. Name the folder that it was built from."
        )
    embeddings = _embedded(found, embedder, on_progress)
    info = replace(index.info, embedder=embedder.name, embedder_fingerprint=embedder.fingerprint)
    with writing_folder(out) as aside:
        for name in index.manifest.without_files(SETTINGS, SCORES, INFO, NEIGHBOURS).files:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(index.folder / name, aside / name)
        write_bytes(aside / INFO, info.to_bytes())
        write_neighbours(aside, embeddings)
        kept = Manifest(aside, index.manifest.files, REMEDY).without_files(SETTINGS, SCORES)
        kept.with_files(INFO, NEIGHBOURS).write()
    return Index.open(out)


def _embedded(found: Catalog, embedder: Embedder, on_progress: Callable[[int, int], None]) -> Tensor:
    """`[n f]`, in the catalog's order."""
    import torch

    parts = []
    for start in range(0, len(found.images), AT_ONCE):
        images = found.images[start : start + AT_ONCE]
        parts.append(embedder.embed([found.picture(image) for image in images]))
        require_finite(parts[-1], [image.id for image in images], "Embedding")
        on_progress(start + len(images), len(found.images))
    return torch.cat(parts)
