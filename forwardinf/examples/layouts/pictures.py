"""What is found out about a picture's file before it is indexed."""

from __future__ import annotations

import io

from PIL import Image

from ...errors import UnreadablePicture
from ..decoding.signatures import format_of

_ORIENTATION, _ON_ITS_SIDE = 0x0112, 5  # EXIF; from 5 on, width and height are swapped


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of an upright picture in pixels, from its header; raises UnreadablePicture saying what it is."""
    try:
        with Image.open(io.BytesIO(data), formats=[format_of(data)]) as header:
            return header.size[::-1] if _is_on_its_side(header) else header.size
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise UnreadablePicture("has a header that cannot be read as a picture's.") from error


def _is_on_its_side(header: Image.Image) -> bool:
    if header.format == "PNG" and "exif" not in header.info:  # it may come behind the pixels, which are not read here
        return False
    orientation: int = header.getexif().get(_ORIENTATION, 1)
    return orientation >= _ON_ITS_SIDE
