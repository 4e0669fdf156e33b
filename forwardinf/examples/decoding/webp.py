"""WebP: its size before it is opened, as that alone takes memory for two whole pictures, and only its first frame.

https://developers.google.com/speed/webp/docs/riff_container
"""

from __future__ import annotations

import math

from .container import Container, too_many
from .limits import MAX_PIXELS, too_large

MAX_CHUNKS = 10_000


def open_webp(data: bytes) -> Container:
    """Without further frames; raises UnreadablePicture if the picture is too large."""
    if (pixels := _pixels(data)) > MAX_PIXELS:
        raise too_large(pixels)
    chunks = _chunks(data)
    has_profile = any(chunk[:4] == b"ICCP" for chunk in chunks)
    frames = [number for number, chunk in enumerate(chunks) if chunk[:4] == b"ANMF"]
    if len(frames) < 2:
        return Container(data, has_profile=has_profile)
    body = b"WEBP" + b"".join(chunk for number, chunk in enumerate(chunks) if number not in frames[1:])
    return Container(b"RIFF" + len(body).to_bytes(4, "little") + body, len(frames), has_profile)


def _chunks(data: bytes) -> list[bytes]:
    chunks: list[bytes] = []
    start = 12
    while start + 8 <= len(data):
        if len(chunks) == MAX_CHUNKS:
            raise too_many("frames", MAX_CHUNKS)
        length = int.from_bytes(data[start + 4 : start + 8], "little")
        chunks.append(data[start : start + 8 + length + length % 2])
        start += 8 + length + length % 2
    return chunks


def _pixels(data: bytes) -> int:
    if data[12:16] == b"VP8X":
        sides = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif data[12:16] == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        sides = ((packed >> shift & 0x3FFF) + 1 for shift in (0, 14))
    else:
        sides = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    return math.prod(sides)
