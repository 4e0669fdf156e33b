"""Random changes to a picture after which it still shows the same: what the embedder `artwork` learns to ignore."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])  # of RGB (NTSC)
SHARES = {"fill": 0.2, "hue": 0.4, "grey": 0.2, "mark": 0.3, "blur": 0.2, "frame": 0.25}  # of copies
TURN = 20  # degrees at most
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def disguised(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """An RGB copy that is turned, scaled and moved, and by chance framed, marked, blurred or recoloured."""
    copy = _placed(picture, random)
    if random.random() < SHARES["frame"]:
        ImageDraw.Draw(copy).rectangle((0, 0, *(side - 1 for side in copy.size)), None, _colour(random), _width(random))
    if random.random() < SHARES["mark"]:
        copy.paste(_colour(random), mask=_mark(copy.width, random))
    if random.random() < SHARES["blur"]:
        copy = copy.filter(ImageFilter.GaussianBlur(random.uniform(0.5, 1.5)))
    return _recoloured(copy, random)


def _placed(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Turned, scaled by 0.75 to 1.15, moved by up to a sixteenth; over white or another colour."""
    side = picture.width
    turn, scale = np.radians(TURN) * random.uniform(-1, 1) ** 3, np.exp(random.uniform(-0.28, 0.14))
    cos, sin = np.cos(turn) / scale, np.sin(turn) / scale
    left, top = side / 2 + random.uniform(-side / 16, side / 16, 2)
    matrix = (cos, -sin, side / 2 - cos * left + sin * top, sin, cos, side / 2 - sin * left - cos * top)
    fill = _colour(random) if random.random() < SHARES["fill"] else "white"
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill)


def _mark(side: int, random: np.random.Generator) -> Image.Image:
    """Lines of letters, how opaque each pixel of a watermark is."""
    mark = Image.new("L", (side, side))
    size, opacity = int(random.integers(side // 8, side // 3)), int(random.integers(60, 180))
    text, font = "".join(LETTERS[i] for i in random.integers(0, len(LETTERS), 8)), _font(size)
    drawing = ImageDraw.Draw(mark)
    for top in range(int(random.integers(side // 4)), side, size + int(random.integers(2, side // 3))):
        drawing.text((0, top), text, fill=opacity, font=font)
    return mark.rotate(float(random.uniform(-40, 40))) if random.random() < 0.5 else mark


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _recoloured(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Hue turned (in YIQ), saturation, contrast and the strength of each channel changed."""
    turn = random.uniform(-np.pi, np.pi) if random.random() < SHARES["hue"] else 0.0
    saturation = 0.0 if random.random() < SHARES["grey"] else random.uniform(0.6, 1.3)
    cos, sin = saturation * np.cos(turn), saturation * np.sin(turn)
    turned = np.linalg.inv(YIQ) @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ YIQ
    strength = np.exp(random.uniform(-0.12, 0.08, (3, 1))) * np.exp(random.uniform(-0.15, 0.1))
    rows = np.hstack([strength * turned, random.uniform(-10, 10, (3, 1))]).astype(float)
    return picture.convert("RGB", tuple(rows.flatten()))


def _colour(random: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(value) for value in random.integers(0, 256, 3))


def _width(random: np.random.Generator) -> int:
    return int(random.integers(2, 8))
