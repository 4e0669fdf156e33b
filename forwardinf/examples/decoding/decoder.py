"""The picture in a file: its container is checked, Pillow decodes it, and it is written as upright 8-bit sRGB."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from io import BytesIO
from typing import Any

from PIL import Image, UnidentifiedImageError

from ...errors import UnreadablePicture
from . import tiff
from .colour import UNUSABLE_PROFILE, to_rgb
from .container import Container
from .gif import open_gif
from .jpeg import damage_in_jpeg, open_jpeg
from .limits import EXPORT_AS_PNG, FETCH_AGAIN, MAX_SIDE, refuse_shape, too_large
from .png import open_png
from .webp import open_webp

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
_CONTAINERS: dict[str, Callable[[bytes], Container]] = {
    "PNG": open_png,
    "JPEG": open_jpeg,
    "GIF": open_gif,
    "WEBP": open_webp,
    "TIFF": tiff.open_tiff,
}


@dataclass(frozen=True)
class Decoded:
    rgb: Image.Image  # at most MAX_SIDE long, upright
    mode: str  # Pillow's, before conversion
    size: tuple[int, int]  # as stored
    notes: tuple[str, ...]


def decode(data: bytes, format: str) -> Decoded:
    """The picture in `data`, which begins like `format`; raises UnreadablePicture, whatever goes wrong.

    All of this handles what a stranger wrote, in libraries that answer damage with any exception, so every exception
    is a refusal.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            decoded = _decode(data, format)
    except (UnreadablePicture, ImportError):  # the latter is a fault of this installation, not of the file
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        count = re.search(r"\d+", str(error))
        raise too_large(int(count[0]) if count else 0) from error
    except MemoryError as error:
        raise UnreadablePicture("needs too much memory to decode. Save it smaller, as 8-bit PNG or JPEG.") from error
    except UnidentifiedImageError as error:
        rare = "12-bit JPEG, colour TIFF in floating point"
        message = f"begins as {format}, but is damaged or of a rare kind (such as {rare}). {EXPORT_AS_PNG}"
        raise UnreadablePicture(message) from error
    except Exception as error:
        ends_early = isinstance(error, EOFError) or "truncated" in str(error).lower()
        what = "ends before the picture is complete" if ends_early else "is damaged"
        raise UnreadablePicture(f"is {format}, but {what}. {FETCH_AGAIN}") from error
    return replace(decoded, notes=(*decoded.notes, *_warned(caught)))


def _warned(caught: list[warnings.WarningMessage]) -> list[str]:
    texts = (str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    return [decoder_warning(text) for text in dict.fromkeys(texts)]


def decoder_warning(text: str) -> str:
    """The note of a warning that a library gave."""
    return f"it may be damaged; its decoder warns: {' '.join(text.split())[:120]}"


def _decode(data: bytes, format: str) -> Decoded:
    plugin: Any = import_module(f"PIL.{_PLUGINS[format]}ImagePlugin")
    if format == "AVIF":
        if not plugin.SUPPORTED:
            raise UnreadablePicture(f"is AVIF, which this installation of Pillow was built without. {EXPORT_AS_PNG}")
        plugin.DEFAULT_MAX_THREADS = 1
    container = _CONTAINERS.get(format, Container)(data)
    image = Image.open(BytesIO(container.data), formats=[format])
    size, mode = image.size, image.mode
    refuse_shape(*size)
    if format == "TIFF":
        tiff.refuse_kind(image)
    notes = _frames_left_out(image, container)
    orientation = tiff.tags(image).get(tiff.ORIENTATION)  # here, as loading removes it
    image.load()
    rgb, conversions = to_rgb(image, _bits(image, container.data))
    notes += conversions
    if container.has_profile and not image.info.get("icc_profile"):
        notes.append(UNUSABLE_PROFILE)
    notes += _ignored_colour(image, container.data)
    rgb = _reduced(rgb, notes)
    if format != "TIFF":
        rgb = _upright(rgb, image, notes)
    elif orientation in _TURNS:  # Pillow has turned it, and gives its size turned
        notes.append(f"{_TURNS[orientation][0]} as its orientation tag asks")
        size = size[::-1] if orientation >= 5 else size
    if format == "JPEG":
        notes += damage_in_jpeg(data, mode)
    return Decoded(rgb, mode, size, (*notes, *container.notes))


def _frames_left_out(image: Image.Image, container: Container) -> list[str]:
    frames = container.frames
    if image.format in ("AVIF", "MPO"):
        frames = getattr(image, "n_frames", 1)
        image.seek(0)
    what = "pages" if image.format == "TIFF" else "frames"
    return [f"first of {frames:,} {what} used"] if frames > 1 else []


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits per channel in the file; Pillow reads deep colour as 8 bits without saying so."""
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        return max(map(int, tiff.tags(image).get(tiff.BITS, (1,))))
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
        orientation = image.getexif().get(tiff.ORIENTATION)
    except Exception:  # as in `decode`; a picture is not refused for its EXIF
        notes.append("its EXIF cannot be read, so it was not turned")
        return rgb
    if orientation not in _TURNS:
        return rgb
    turned, method = _TURNS[orientation]
    notes.append(f"{turned} as its EXIF orientation asks")
    return rgb.transpose(method)
