"""Aspect-ratio buckets: shapes of about one area, the nearest of which a trainer scales and crops a picture to.

The shapes are those of kohya's sd-scripts (`make_bucket_resolutions`), which other trainers took over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain

Shape = tuple[int, int]  # width and height in pixels
STEP = 64  # pixels: what every side is a multiple of
SMALLEST, LARGEST = 256, 1024  # sides


def bucket_shapes(square: Shape, smallest: int = SMALLEST, largest: int = LARGEST, step: int = STEP) -> list[Shape]:
    """Shapes of at most the area of `square`, whose sides are multiples of `step`, in ascending order."""
    area = square[0] * square[1]
    side = int(math.sqrt(area) // step) * step
    sides = range(smallest, largest + 1, step)
    pairs = ((side, min(largest, area // side // step * step)) for side in sides)
    upright = [(side, other) for side, other in pairs if other >= smallest]
    return sorted({(side, side), *chain.from_iterable(((a, b), (b, a)) for a, b in upright)})


def bucket_of(size: Shape, shapes: Iterable[Shape]) -> Shape:
    """The shape of a picture's size where there is one, else the one of the nearest aspect ratio."""
    ordered = sorted(shapes)
    if size in ordered:
        return size
    ratio = size[0] / size[1]
    return min(ordered, key=lambda shape: abs(shape[0] / shape[1] - ratio))
