"""How high images score for pictures that the model never saw: asked once, when an index is built."""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image

from . import manifest
from .attribution import Attributor
from .errors import InvalidRequest
from .index.catalog import Catalog
from .index.reference import begun, finish
from .index.store import Index
from .methods import AttributionMethod

QUERIES = 29  # the third highest of them bounds a rate of 10 %


def build_reference(
    attributor: Attributor,
    method: AttributionMethod,
    pictures: Catalog,
    count: int = QUERIES,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Index:
    """Ask `count` random held-out images of the index with their captions, and keep every score in the index's folder.

    `pictures` holds them at the size they have. Resumes where it was cut off, and does nothing where it is there;
    returns the index as it is then. Raises InvalidRequest where the index has no held-out image.
    """
    index = attributor.index
    held_out = index.catalog.of_split("held_out").images
    if not held_out:
        raise InvalidRequest(
            f"“{index.folder.name}” has no image of the split held_out, so there is nothing to compare an answer with. "
            "Name some in metadata.jsonl that the model was not trained on."
        )
    chosen = sorted(random.Random(seed).sample([i.id for i in held_out], min(count, len(held_out))))
    settings, kept = attributor.comparable(method), index.reference
    if kept and (kept.settings, list(kept.queries)) == (settings, chosen):
        return index
    rows = begun(index.folder, settings, tuple(chosen), index.info.examples)
    for done, query_id in enumerate(chosen):
        on_progress(done, len(chosen))
        if rows.get(done) is None:
            image = pictures.by_id[query_id]
            with Image.open(pictures.path_of(image)) as file:
                query = attributor.query(file.convert("RGB"), image.caption)
            *_, last = attributor.follow(query, method)
            rows.put(done, last.all_scores().scores.numpy())
    on_progress(len(chosen), len(chosen))
    rows.rows.flush()  # type: ignore[attr-defined]
    finish(index.folder)
    manifest.write_manifest(index.folder)
    return Index.open(index.folder)
