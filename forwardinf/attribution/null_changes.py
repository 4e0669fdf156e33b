"""What an index's images showed under its null pictures, as the score takes it."""

from __future__ import annotations

from ..index.null_file import Reference
from ..index.store import Index
from ..scoring.score import Changes


def changes_under(reference: Reference, index: Index) -> list[Changes]:
    """The changes of every indexed image under each null picture."""
    ids = tuple(image.id for image in index.catalog.images)
    each = zip(reference.per_draw, reference.weights, strict=True)
    return [Changes(ids, per_draw, weights, reference.size_draws) for per_draw, weights in each]
