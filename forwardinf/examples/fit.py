"""How pictures of any shape are made those that a model is shown: as its trainer made them.

crop    the middle, as trainers do by default
pad     the whole picture, centred on white
bucket  the middle, in the shape of the nearest aspect ratio among those of about the same area; see buckets.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from math import lcm
from typing import TypeVar

from PIL import Image

from ..errors import InvalidSettings
from .buckets import STEP, Shape, bucket_of, bucket_shapes
from .decoding.square import resized, to_square

CROP, PAD, BUCKET = FITS = ("crop", "pad", "bucket")
STEPS = 4  # of STEP pixels in a side, below which buckets take as small steps as the model does
Element = TypeVar("Element")


@dataclass(frozen=True)
class Fit:
    """One of these rules for a model."""

    rule: str
    side: int  # of the squares that it was trained on, in pixels
    step: int  # what every side has to be a multiple of

    def __post_init__(self) -> None:
        if self.rule not in FITS:
            raise InvalidSettings(f"Pictures cannot be fitted by “{self.rule}”. Try {', '.join(FITS)}.")

    def of(self, picture_rgb: Image.Image, size: Shape | None = None) -> Image.Image:
        """The picture as the model is shown it; its `size` is given where it was larger than it is."""
        if self.rule == PAD:
            return to_square(picture_rgb, self.side)
        return cropped(picture_rgb, self.shape_of(size or picture_rgb.size))

    def shape_of(self, size: Shape) -> Shape:
        """Width and height that a picture of some size is given."""
        return bucket_of(size, self._shapes) if self.rule == BUCKET else (self.side, self.side)

    def by_shape(self, elements: Iterable[Element], size_of: Callable[[Element], Shape]) -> list[list[Element]]:
        """Elements in groups of one shape, in the order of shapes, otherwise as they come."""

        def shape(element: Element) -> Shape:
            return self.shape_of(size_of(element))

        return [list(group) for _, group in groupby(sorted(elements, key=shape), shape)]

    @cached_property
    def _shapes(self) -> list[Shape]:
        """From half to double the side, as 256 to 1,024 pixels about 512 are usual."""
        step = lcm(self.step, STEP) if self.side >= STEPS * STEP else self.step
        return bucket_shapes((self.side, self.side), self.side // 2, self.side * 2, step)


def cropped(picture_rgb: Image.Image, shape: Shape) -> Image.Image:
    """The largest part of a picture that has a shape's aspect ratio, about its middle, resized to it."""
    scale = min(picture_rgb.width / shape[0], picture_rgb.height / shape[1])
    width, height = (min(side, max(1, round(part * scale))) for side, part in zip(picture_rgb.size, shape, strict=True))
    left, top = (picture_rgb.width - width) // 2, (picture_rgb.height - height) // 2
    return resized(picture_rgb.crop((left, top, left + width, top + height)), shape)
