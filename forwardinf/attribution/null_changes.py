"""What an index's images showed under its null pictures, as the score takes it."""

from __future__ import annotations

from ..index.null_file import NullChanges
from ..index.store import Index
from ..scoring.score import Changes


def changes_under(null: NullChanges, index: Index) -> list[Changes]:
    """The changes of every indexed image under each null picture."""
    ids = tuple(image.id for image in index.catalog.images)
    each = zip(null.per_draw, null.likeness_weights, strict=True)
    return [Changes(ids, per_draw, weights, null.size_draws) for per_draw, weights in each]
