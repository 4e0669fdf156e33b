"""PNG chunk by chunk, with the checksums that Pillow does not check.

Pillow checks no checksum from the first IDAT on, and gives up a sound picture for a damaged or huge text. Here every
checksum is checked, and Pillow is given only the chunks that decide the pixels.
https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...errors import UnreadablePicture
from .container import Container, too_many
from .inflate import unpacked_size
from .limits import EXPORT_AS_PNG, FETCH_AGAIN, refuse_shape

MAX_CHUNKS = 30_000  # 30 MB in IDATs of 1 KB; usual are 8 KB and more

_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_DECIDING = _CRITICAL | {b"tRNS", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf"}
_TEXT = {b"tEXt", b"zTXt", b"iTXt"}
# A picture can do without these when they are damaged. Any other damaged chunk is a refusal, as what was damaged may
# be its name.
_DISPENSABLE = _TEXT | {
    *(b"eXIf", b"tIME", b"pHYs", b"bKGD", b"hIST", b"sPLT", b"sBIT", b"oFFs", b"pCAL", b"sCAL", b"sTER", b"dSIG"),
    *(b"acTL", b"fcTL", b"fdAT", b"mDCV", b"cLLI", b"caBX", b"iDOT", b"orNT", b"vpAg"),
}
_ORIENTATION_KEYWORDS = {b"Raw profile type exif", b"XML:com.adobe.xmp"}  # where Pillow finds one besides eXIf
_MAX_TEXT = 1 << 20  # bytes of one text or profile, unpacked; Pillow's limit

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    whole: memoryview  # length, name, body, checksum
    is_sound: bool  # its checksum is right

    @property
    def body(self) -> memoryview:
        return self.whole[8:-4]


def open_png(data: bytes) -> Container:
    """The first frame; raises UnreadablePicture naming the chunk if one that decides the pixels is damaged."""
    chunks, notes = _sound_chunks(data)
    kept = [chunk for chunk in chunks if _is_kept(chunk)]
    if not kept or kept[0].name != b"IHDR" or len(kept[0].body) != 13:
        raise _damaged("it does not begin with its size")
    header = bytes(kept[0].body)
    refuse_shape(int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big"))
    names = {chunk.name for chunk in kept}
    if header[9] == 3 and b"PLTE" not in names:
        raise _damaged("its palette is missing")
    if _has_spare_pixels(header, [chunk.body for chunk in kept if chunk.name == b"IDAT"]):
        notes.append("it holds more pixel data than its size needs; the rest was left out")
    if b"IEND" not in names:
        notes.append("the file is cut off or damaged after its pixels, which are complete")
    whole = b"".join([data[:8], *(chunk.whole for chunk in kept)])
    has_profile = any(chunk.name == b"iCCP" for chunk in chunks)
    return Container(whole, _frames(chunks), has_profile, tuple(notes))


def _sound_chunks(data: bytes) -> tuple[list[_Chunk], list[str]]:
    chunks, damaged = [], []
    for chunk in _chunks(data):
        shown = "".join(letter if letter.isprintable() else "?" for letter in chunk.name.decode("latin-1"))
        if chunk.is_sound:
            if chunk.name[:1].isupper() and chunk.name not in _CRITICAL:
                raise UnreadablePicture(
                    f"is a PNG of a rare kind (chunk “{shown}”), which is not read. {EXPORT_AS_PNG}"
                )
            chunks.append(chunk)
        elif chunk.name in _DISPENSABLE:
            damaged.append(shown)
        else:
            raise _damaged(f"the checksum of its chunk “{shown}” is wrong")
    return chunks, [f"its chunk “{shown}” is damaged and was left out" for shown in dict.fromkeys(damaged)]


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Up to IEND, or to where no whole chunk follows."""
    view = memoryview(data)
    start = 8
    for _ in range(MAX_CHUNKS):
        end = start + 12 + int.from_bytes(view[start : start + 4], "big")
        if end > len(data):
            return
        name = bytes(view[start + 4 : start + 8])
        checksum = int.from_bytes(view[end - 4 : end], "big")
        yield _Chunk(name, view[start:end], zlib.crc32(view[start + 4 : end - 4]) == checksum)
        if name == b"IEND":
            return
        start = end
    raise too_many("chunks", MAX_CHUNKS)


def _is_kept(chunk: _Chunk) -> bool:
    if chunk.name == b"iCCP":
        return _unpacks(bytes(chunk.body).partition(b"\0")[2][1:])
    return chunk.name in _DECIDING or (chunk.name in _TEXT and _tells_orientation(chunk))


def _tells_orientation(chunk: _Chunk) -> bool:
    keyword, _, rest = bytes(chunk.body[:_MAX_TEXT]).partition(b"\0")
    if keyword not in _ORIENTATION_KEYWORDS or len(chunk.body) > _MAX_TEXT:
        return False
    if chunk.name == b"iTXt":
        return rest[:1] == b"\0"  # not compressed
    return chunk.name == b"tEXt" or _unpacks(rest[1:])


def _unpacks(packed: bytes) -> bool:
    """Whether a compressed text or profile is whole, and not a bomb."""
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(packed, _MAX_TEXT)
    except zlib.error:
        return False
    return inflater.eof


def _frames(chunks: list[_Chunk]) -> int:
    names = [chunk.name for chunk in chunks]
    controls = names.count(b"fcTL")
    if b"acTL" not in names or not controls:
        return 1
    is_separate = names.index(b"IDAT") < names.index(b"fcTL")  # a still picture for viewers that do not animate
    return controls + is_separate


def _has_spare_pixels(header: bytes, parts: Iterable[memoryview]) -> bool:
    """Whether there is more pixel data than the size needs; raises UnreadablePicture if it is less, or damaged."""
    needed = _unpacked_size(header)
    try:
        size = unpacked_size(parts, needed)
    except zlib.error as error:
        raise _damaged(f"its pixel data cannot be unpacked ({str(error).rpartition(': ')[2]})") from error
    if size is None or size < needed:
        raise UnreadablePicture(f"is PNG, but ends before the picture is complete. {FETCH_AGAIN}")
    return size > needed


def _unpacked_size(header: bytes) -> int:
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _CHANNELS.get(header[9], 1)
    passes = _ADAM7 if header[12] else ((0, 0, 1, 1),)
    total = 0
    for left, top, step_x, step_y in passes:
        columns, rows = math.ceil((width - left) / step_x), math.ceil((height - top) / step_y)
        if columns > 0:
            total += max(rows, 0) * (1 + math.ceil(columns * bits / 8))
    return total


def _damaged(what: str) -> UnreadablePicture:
    return UnreadablePicture(f"is PNG, but damaged: {what}. {FETCH_AGAIN}")
