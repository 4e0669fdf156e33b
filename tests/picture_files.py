"""Picture files made on the spot, for the tests of decoding."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image, features

from forwardinf.examples.decoding.decoder import Decoded, decode
from forwardinf.examples.decoding.signatures import format_of

FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"] + ["AVIF"] * features.check("avif")


def here(data: bytes) -> Decoded:
    """What the child does, in this process."""
    return decode(data, format_of(data))


def file_of(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    out = BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def gradient(width: int = 24, height: int = 16) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 10, y * 15, 255 - x * 5], axis=-1).astype(np.uint8))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(values: np.ndarray, colour_type: int, bits: int, *extra: bytes) -> bytes:
    """A PNG that Pillow could not write; `values` [h w] or [h w c], of 8 or 16 bits."""
    rows = values.astype(">u2" if bits == 16 else "u1")
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour_type, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def zeros_png(width: int, height: int) -> bytes:
    """A small file of a huge black picture."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def uniform(*colour: int, size: tuple[int, int] = (16, 16)) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint16), (size[1], size[0], len(colour)))


def adam7(values: np.ndarray) -> bytes:
    """An interlaced RGB PNG of `values` [h w 3]."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    reduced = [values[top::step_y, left::step_x] for left, top, step_x, step_y in passes]
    rows = b"".join(b"\0" + row.tobytes() for image in reduced if image.size for row in image)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 8, 2, 0, 0, 1)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
