"""The child process in which untrusted bytes are decoded: a file on stdin, a picture or a refusal on stdout.

The answer is one line of JSON: either `{"refused": "..."}`, or `{"mode", "size", "notes", "rgb_size"}` followed by
width × height × 3 raw bytes of RGB. Nothing is pickled. Only Pillow, and numpy for deep greyscale, are imported.
"""

from __future__ import annotations

import json
import math
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from typing import Any

from PIL import Image, UnidentifiedImageError

from ...errors import UnreadablePicture
from .colour import to_rgb

MAX_PIXELS = 40_000_000
MAX_SIDE = 1024  # of the picture that is handed back
MIN_SIDE = 8
MAX_ASPECT = 8  # squared up for the model, anything longer is a thin line on white: 64 px leave it less than 8

MAX_ANSWER = MAX_SIDE * MAX_SIDE * 3 + 65_536
_MEMORY = 3 << 29  # bytes of address space; the hungriest picture tried, 40 Mpx of WebP with alpha, takes 0.85 GiB
_CPU_SECONDS = 20

_PLUGINS = {"PNG": "Png", "JPEG": "Jpeg", "WEBP": "WebP", "GIF": "Gif", "TIFF": "Tiff", "BMP": "Bmp", "AVIF": "Avif"}
_TURNS = {
    2: ("mirrored", Image.Transpose.FLIP_LEFT_RIGHT),
    3: ("rotated", Image.Transpose.ROTATE_180),
    4: ("mirrored", Image.Transpose.FLIP_TOP_BOTTOM),
    5: ("mirrored and rotated", Image.Transpose.TRANSPOSE),
    6: ("rotated", Image.Transpose.ROTATE_270),
    7: ("mirrored and rotated", Image.Transpose.TRANSVERSE),
    8: ("rotated", Image.Transpose.ROTATE_90),
}
_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _ORIENTATION, _DNG = 254, 258, 262, 274, 50706  # TIFF tags
_AGAIN = "Open it in an image editor, export it as PNG, and use that."


@dataclass(frozen=True)
class Decoded:
    rgb: Image.Image  # at most MAX_SIDE long, upright
    mode: str  # Pillow's, before conversion
    size: tuple[int, int]  # as stored
    notes: tuple[str, ...]


def main(format: str) -> None:
    """Decode stdin to stdout, inside limits that this process sets on itself before it reads a byte."""
    _limit_itself()
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    out = sys.stdout.buffer
    try:
        picture = decode(sys.stdin.buffer.read(), format)
    except UnreadablePicture as refusal:
        out.write(json.dumps({"refused": str(refusal)}).encode() + b"\n")
        return
    header = {"mode": picture.mode, "size": picture.size, "notes": picture.notes, "rgb_size": picture.rgb.size}
    out.write(json.dumps(header).encode() + b"\n" + picture.rgb.tobytes())


def _limit_itself() -> None:
    if sys.platform == "win32":  # has no such limits: there the pixel limit and the parent's timeout remain
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_ANSWER, MAX_ANSWER))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # macOS refuses to lower this one
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def decode(data: bytes, format: str) -> Decoded:
    """The picture in `data`, which begins like `format`; raises UnreadablePicture, whatever goes wrong.

    Everything here works on what a stranger wrote, in libraries that answer damage with any exception, so every
    exception is a refusal.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decode(data, format)
    except (UnreadablePicture, ImportError):  # the latter is this installation's fault, not the file's
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        count = re.search(r"\d+", str(error))
        raise _too_large(int(count[0]) if count else 0) from error
    except MemoryError as error:
        raise UnreadablePicture("needs too much memory to decode. Save it smaller, as 8-bit PNG or JPEG.") from error
    except UnidentifiedImageError as error:
        rare = "12-bit JPEG, colour TIFF in floating point"
        message = f"begins as {format}, but is damaged or of a rare kind (such as {rare}). {_AGAIN}"
        raise UnreadablePicture(message) from error
    except Exception as error:
        ends_early = isinstance(error, EOFError) or "truncated" in str(error).lower()
        what = "ends before the picture is complete" if ends_early else "is damaged"
        raise UnreadablePicture(f"is {format}, but {what}. Fetch it again from where it came from.") from error


def _too_large(pixels: int) -> UnreadablePicture:
    many = f"{pixels / 1e6:,.0f}" if pixels else "too many"
    limit = f"at most {MAX_PIXELS // 10**6} are read"
    return UnreadablePicture(f"has {many} megapixels; {limit}. Save it smaller and try again.")


def _decode(data: bytes, format: str) -> Decoded:
    plugin: Any = import_module(f"PIL.{_PLUGINS[format]}ImagePlugin")
    if format == "AVIF":
        if not plugin.SUPPORTED:
            raise UnreadablePicture(f"is AVIF, which this installation of Pillow was built without. {_AGAIN}")
        plugin.DEFAULT_MAX_THREADS = 1
    if format == "WEBP" and (pixels := _webp_pixels(data)) > MAX_PIXELS:
        raise _too_large(pixels)
    image = Image.open(BytesIO(data), formats=[format])
    size, mode = image.size, image.mode
    _refuse_shape(*size)
    if format == "TIFF":
        _refuse_tiff(image)
    frames = getattr(image, "n_frames", 1)
    image.seek(0)
    orientation = _tags(image).get(_ORIENTATION)  # here, as loading removes it
    image.load()
    rgb, notes = to_rgb(image, _bits(image, data))
    if frames > 1:
        notes.insert(0, f"first of {frames:,} {'pages' if format == 'TIFF' else 'frames'} used")
    notes.extend(_ignored_colour(image, data))
    rgb = _reduced(rgb, notes)
    if format != "TIFF":
        rgb = _upright(rgb, image, notes)
    elif orientation in _TURNS:  # Pillow has turned it, and gives its size turned
        notes.append(f"{_TURNS[orientation][0]} as its orientation tag asks")
        size = size[::-1] if orientation >= 5 else size
    return Decoded(rgb, mode, size, tuple(notes))


def _webp_pixels(data: bytes) -> int:
    """Asked before Pillow opens the file, as that alone takes memory for two whole pictures."""
    if data[12:16] == b"VP8X":
        sides = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif data[12:16] == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        sides = ((packed >> shift & 0x3FFF) + 1 for shift in (0, 14))
    else:
        sides = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    return math.prod(sides)


def _refuse_shape(width: int, height: int) -> None:
    short, long = sorted((width, height))
    if short < MIN_SIDE:
        message = f"is {width:,} × {height:,} pixels; the shorter side must have at least {MIN_SIDE}."
        raise UnreadablePicture(f"{message} Use a larger version of it.")
    if long > MAX_ASPECT * short:
        message = f"is {width:,} × {height:,} pixels, longer than {MAX_ASPECT} to 1: made square for the model, hardly"
        raise UnreadablePicture(f"{message} anything of it would be left. Crop it and try again.")


def _tags(image: Image.Image) -> Mapping[int, Any]:
    """A TIFF's tags; none for other formats."""
    return getattr(image, "tag_v2", {})


def _refuse_tiff(image: Image.Image) -> None:
    tags = _tags(image)
    if _DNG in tags or tags.get(_SUBFILE_TYPE, 0) & 1:
        raise UnreadablePicture(
            "is a camera's raw file, or a TIFF that begins with a preview. Export it as JPEG or PNG."
        )
    if tags.get(_PHOTOMETRIC) == 0 and image.mode not in ("1", "L", "P"):
        raise UnreadablePicture(f"is a deep greyscale TIFF with white stored as zero, which is not read. {_AGAIN}")


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits per channel in the file; Pillow reads deep colour as 8 bits without saying so."""
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        return max(map(int, _tags(image).get(_BITS, (1,))))
    if image.format == "AVIF":
        at = data.find(b"av1C", 0, 65_536)
        return 10 if at >= 0 and data[at + 6] & 0x40 else 8
    return 8


def _ignored_colour(image: Image.Image, data: bytes) -> list[str]:
    """What a file says of its colours besides an ICC profile, which Pillow does not apply."""
    if image.info.get("icc_profile"):
        return []
    notes = []
    if image.format == "PNG" and (at := data.find(b"cICP", 0, 65_536)) >= 0:
        primaries, transfer = data[at + 4], data[at + 5]
    elif image.format == "AVIF" and (at := data.find(b"colrnclx", 0, 65_536)) >= 0:
        primaries, transfer = (int.from_bytes(data[i : i + 2], "big") for i in (at + 8, at + 10))
    else:
        primaries, transfer = 1, 13
    if primaries not in (1, 2) or transfer not in (1, 2, 6, 13):
        hdr = {16: " (HDR, PQ)", 18: " (HDR, HLG)"}.get(transfer, "")
        notes.append(
            f"its colour tag, primaries {primaries} and transfer {transfer}{hdr}, was not applied: read as sRGB"
        )
    gamma = image.info.get("gamma", 1 / 2.2)
    if abs(gamma - 1 / 2.2) > 0.02 and "srgb" not in image.info:
        notes.append(f"its gamma tag of {gamma:g} was not applied: read as sRGB")
    return notes


def _reduced(rgb: Image.Image, notes: list[str]) -> Image.Image:
    width, height = rgb.size
    if max(width, height) <= MAX_SIDE:
        return rgb
    scale = MAX_SIDE / max(width, height)
    size = (round(width * scale), round(height * scale))
    notes.append(f"reduced from {width:,} × {height:,} to {size[0]:,} × {size[1]:,} pixels")
    return rgb.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


def _upright(rgb: Image.Image, image: Image.Image, notes: list[str]) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # as in `decode`; a picture is not refused for its EXIF
        notes.append("its EXIF cannot be read, so it was not turned")
        return rgb
    if orientation not in _TURNS:
        return rgb
    turned, method = _TURNS[orientation]
    notes.append(f"{turned} as its EXIF orientation asks")
    return rgb.transpose(method)
