"""TIFF: how many pages and strips it has, before it is opened, and kinds of it that Pillow would show wrongly.

https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf; BigTIFF: https://www.awaresystems.be/imaging/tiff/bigtiff.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from ...errors import UnreadablePicture
from .container import Container, too_many
from .limits import EXPORT_AS_PNG

MAX_PAGES = 10_000
MAX_STRIPS = 200_000  # 40 megapixels in the smallest tiles, 16 × 16, are 156,250

SUBFILE_TYPE, BITS, PHOTOMETRIC, ORIENTATION, DNG = 254, 258, 262, 274, 50706
_OFFSETS, _LENGTHS = (273, 324), (279, 325)  # of strips, of tiles
_PROFILE = 34675


@dataclass(frozen=True)
class _Layout:
    """How wide numbers are: 4 bytes in classic TIFF, 8 in BigTIFF."""

    order: Literal["little", "big"]
    is_big: bool

    def number(self, data: bytes, at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], self.order)

    @property
    def word(self) -> int:
        return 8 if self.is_big else 4

    @property
    def head(self) -> int:
        """Bytes of the number of entries."""
        return 8 if self.is_big else 2

    @property
    def entry(self) -> int:
        return 20 if self.is_big else 12


def open_tiff(data: bytes) -> Container:
    """The file as it is; raises UnreadablePicture if it has so many pages or strips that opening it takes long."""
    layout = _Layout("little" if data[:2] == b"II" else "big", 43 in data[2:4])
    page = layout.number(data, layout.word, layout.word)
    counts = _counts(data, page, layout)
    if max((counts.get(tag, 0) for tag in _OFFSETS + _LENGTHS), default=0) > MAX_STRIPS:
        raise too_many("strips", MAX_STRIPS)
    return Container(data, _pages(data, page, layout), _PROFILE in counts)


def _counts(data: bytes, page: int, layout: _Layout) -> dict[int, int]:
    """How many values each tag of a page has."""
    entries = layout.number(data, page, layout.head)
    starts = range(page + layout.head, min(len(data), page + layout.head + entries * layout.entry), layout.entry)
    return {layout.number(data, at, 2): layout.number(data, at + 4, layout.word) for at in starts}


def _pages(data: bytes, page: int, layout: _Layout) -> int:
    seen: set[int] = set()
    while page and page < len(data) and page not in seen:
        if len(seen) == MAX_PAGES:
            raise too_many("pages", MAX_PAGES)
        seen.add(page)
        after = page + layout.head + layout.number(data, page, layout.head) * layout.entry
        page = layout.number(data, after, layout.word)
    return len(seen)


def tags(image: Image.Image) -> Mapping[int, Any]:
    """The tags of a TIFF; none of other formats."""
    return getattr(image, "tag_v2", {})


def refuse_kind(image: Image.Image) -> None:
    """Raises UnreadablePicture for raw files, previews, and greys that Pillow would invert."""
    found = tags(image)
    if DNG in found or found.get(SUBFILE_TYPE, 0) & 1:
        raise UnreadablePicture(
            "is a camera's raw file, or a TIFF that begins with a preview. Export it as JPEG or PNG."
        )
    if found.get(PHOTOMETRIC) == 0 and image.mode not in ("1", "L", "P"):
        raise UnreadablePicture(
            f"is a deep greyscale TIFF with white stored as zero, which is not read. {EXPORT_AS_PNG}"
        )
