"""A picture of any shape, made square for the model."""

from __future__ import annotations

from PIL import Image


def to_square(picture_rgb: Image.Image, side: int) -> Image.Image:
    """The picture centred on white if it is not square, then resized to `side` × `side`.

    Reductions by a whole number average blocks of pixels, as training does: a training image gives exactly what the
    model was trained on.
    """
    square = _padded(picture_rgb)
    if square.width == side:
        return square
    if square.width % side == 0:
        resampling = Image.Resampling.BOX
    elif square.width > side:
        resampling = Image.Resampling.LANCZOS  # weighs every pixel, so no aliasing, and blurs least of Pillow's filters
    else:
        resampling = Image.Resampling.BICUBIC
    return square.resize((side, side), resampling)


def _padded(rgb: Image.Image) -> Image.Image:
    side = max(rgb.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(rgb, ((side - rgb.width) // 2, (side - rgb.height) // 2))
    return square
