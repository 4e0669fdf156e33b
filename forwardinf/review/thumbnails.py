"""Where a report and a pack take the thumbnails of training images from."""

from __future__ import annotations

from ..index.store import Index
from .dossier import Thumbnail
from .findings import FoundMatch


def thumbnails_in(index: Index) -> Thumbnail:
    """The thumbnails of an index, verified as they are read; None for an answer of another index."""

    def thumbnail(answered_by: str, match: FoundMatch) -> bytes | None:
        image = index.catalog.by_id.get(match.example_id)
        if answered_by != index.fingerprint or image is None:
            return None
        return index.thumbnail_files.read(image.file_name)

    return thumbnail
