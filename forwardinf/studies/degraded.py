"""Deterministic degradations of a picture at the model's picture size."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from PIL import Image

JPEG_QUALITY = 70


def clean(picture: Image.Image) -> Image.Image:
    """The picture as it was trained on."""
    return picture


def jpeg(picture: Image.Image) -> Image.Image:
    """Compressed as JPEG at quality 70."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    return Image.open(file).convert("RGB")


def resized(picture: Image.Image) -> Image.Image:
    """Reduced to three quarters of its side (48 of 64 px) and enlarged again."""
    side = picture.width * 3 // 4
    return picture.resize((side, side), Image.Resampling.BICUBIC).resize(picture.size, Image.Resampling.BICUBIC)


def cropped(picture: Image.Image) -> Image.Image:
    """Cropped by a sixteenth at every edge and enlarged again, with red 8 % stronger and blue 8 % weaker."""
    edge = picture.width // 16
    inner = picture.crop((edge, edge, picture.width - edge, picture.height - edge))
    red, green, blue = inner.resize(picture.size, Image.Resampling.BICUBIC).split()
    stronger, weaker = red.point(lambda v: min(255, round(v * 1.08))), blue.point(lambda v: round(v * 0.92))
    return Image.merge("RGB", (stronger, green, weaker))


VARIANTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "clean": clean,
    "jpeg": jpeg,
    "resized": resized,
    "cropped": cropped,
}
IN_TURN = "degraded"  # one of the degraded variants for each query, in turn
DEGRADED = tuple(name for name in VARIANTS if name != "clean")
