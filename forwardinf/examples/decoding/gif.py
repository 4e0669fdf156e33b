"""GIF reduced to its first frame, so that neither thousands of frames nor megabytes of comments cost anything.

https://www.w3.org/Graphics/GIF/spec-gif89a.txt
"""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import UnreadablePicture
from .container import Container, too_many
from .limits import FETCH_AGAIN

MAX_FRAMES = 10_000
MAX_SUBBLOCKS = 1_000_000  # 30 MB in the usual 255 bytes each are 118,000

_EXTENSION, _IMAGE = 0x21, 0x2C
_GRAPHIC_CONTROL = 0xF9


def open_gif(data: bytes) -> Container:
    """The first frame, with the transparency and palette that apply to it."""
    header = data[: 13 + _palette_size(data[10:11])]
    control = b""
    first = None
    frames = 0
    for kind, block in _blocks(data, len(header)):
        if kind == _IMAGE:
            frames += 1
            first = first or header + control + block + b";"
        elif kind == _GRAPHIC_CONTROL and not frames:
            control = block
        if frames > MAX_FRAMES:
            raise too_many("frames", MAX_FRAMES)
    if first is None:
        raise UnreadablePicture(f"is GIF, but ends before the picture is complete. {FETCH_AGAIN}")
    return Container(first, frames)


def _blocks(data: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    """Images and extensions, up to the trailer or to where no whole block follows."""
    budget = MAX_SUBBLOCKS
    while start + 2 <= len(data) and data[start] in (_EXTENSION, _IMAGE):
        if data[start] == _IMAGE:
            kind, at = _IMAGE, start + 11 + _palette_size(data[start + 9 : start + 10])
        else:
            kind, at = data[start + 1], start + 2
        while length := data[at] if at < len(data) else None:
            at += 1 + length
            budget -= 1
            if not budget:
                raise too_many("data blocks", MAX_SUBBLOCKS)
        if length is None:
            return
        yield kind, data[start : at + 1]
        start = at + 1


def _palette_size(flags: bytes) -> int:
    """Bytes of the palette that a byte of flags announces."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
