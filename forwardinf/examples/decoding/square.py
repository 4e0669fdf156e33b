"""A picture of any shape, made square for the model."""

from __future__ import annotations

from PIL import Image


def to_square(picture_rgb: Image.Image, side: int) -> Image.Image:
    """The picture centred on white if it is not square, then resized to `side` × `side`."""
    return resized(_padded(picture_rgb), (side, side))


def resized(picture_rgb: Image.Image, shape: tuple[int, int]) -> Image.Image:
    """The picture in the width and height of `shape`, which has about its aspect ratio.

    Reductions by a whole number average blocks of pixels, as training does: a training image gives exactly what the
    model was trained on.
    """
    if picture_rgb.size == shape:
        return picture_rgb
    if picture_rgb.width % shape[0] == 0 and picture_rgb.height % shape[1] == 0:
        resampling = Image.Resampling.BOX
    elif picture_rgb.width > shape[0]:
        resampling = Image.Resampling.LANCZOS  # weighs every pixel, so no aliasing, and blurs least of Pillow's filters
    else:
        resampling = Image.Resampling.BICUBIC
    return picture_rgb.resize(shape, resampling)


def _padded(rgb: Image.Image) -> Image.Image:
    side = max(rgb.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(rgb, ((side - rgb.width) // 2, (side - rgb.height) // 2))
    return square
