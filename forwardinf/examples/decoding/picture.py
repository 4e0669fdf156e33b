"""Reading a picture: from a stranger in a separate process, from the user's training set in this one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import PurePath

from PIL import Image

from ...errors import UnreadablePicture
from .decoder import decode
from .sandbox import decode_apart
from .signatures import format_of

MAX_BYTES = 30_000_000


@dataclass(frozen=True)
class Picture:
    """An uploaded picture, and what was converted to make it."""

    rgb: Image.Image  # sRGB, upright, on white, at most 1024 px long; the pixels in the file if they already were that
    sha256: str  # of the bytes as they arrived
    format: str  # PNG, JPEG, WEBP, GIF, TIFF, BMP, AVIF
    original_size: tuple[int, int]  # width, height as stored
    original_mode: str  # Pillow's name for it: RGB, RGBA, P, I;16, F, CMYK, …
    notes: tuple[str, ...]  # one sentence for each conversion, and for each fault that was tolerated


def read_picture(data: bytes, *, name: str = "picture") -> Picture:
    """The picture in `data`, decoded in a separate process with limited memory and time.

    Raises UnreadablePicture, which names the file, says what is wrong with it and what to try.
    """
    try:
        if len(data) > MAX_BYTES:
            limit = f"at most {MAX_BYTES // 10**6} MB are read"
            raise UnreadablePicture(f"has {len(data) / 1e6:,.1f} MB; {limit}. Save it smaller, or as JPEG.")
        format = format_of(data)
        decoded = decode_apart(data, format)
    except UnreadablePicture as refusal:
        raise UnreadablePicture(f"“{_shown(name)}” {refusal}") from refusal
    return Picture(decoded.rgb, hashlib.sha256(data).hexdigest(), format, decoded.size, decoded.mode, decoded.notes)


def decode_training_picture(data: bytes, name: str) -> Image.Image:
    """A training image with exactly the pixels that `read_picture` would give.

    Decoded in this process, which is faster: the folder belongs to the user. Raises UnreadablePicture naming the file.
    """
    try:
        return decode(data, format_of(data)).rgb
    except UnreadablePicture as refusal:
        raise UnreadablePicture(f"“{_shown(name)}” {refusal}") from refusal


def _shown(name: str) -> str:
    """The file name without folders and without characters that do not print, shortened if it is long."""
    printable = "".join(character for character in PurePath(name).name if character.isprintable())
    return printable if len(printable) <= 80 else f"{printable[:60]}…{printable[-15:]}"
