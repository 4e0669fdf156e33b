"""The catalogued pictures as one tensor at the model's size."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from ..examples.catalog import Catalog, TrainingImage
from ..examples.decoding import to_square

MODEL_SIZE = 64


def load_pictures(catalog: Catalog) -> torch.Tensor:
    """uint8 RGB `[n 3 64 64]`, in the catalog's order."""
    stack = np.stack([np.asarray(at_model_size(catalog, image)) for image in catalog.images])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()


def at_model_size(catalog: Catalog, image: TrainingImage) -> Image.Image:
    """A picture at the model's size, converted as a query is."""
    return to_square(Image.open(io.BytesIO(catalog.read_bytes(image))).convert("RGB"), MODEL_SIZE)


def to_model_range(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 to float in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def tiled(pictures: list[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size in rows of `columns`, on white."""
    side = pictures[0].width
    sheet = Image.new("RGB", (columns * side, -(-len(pictures) // columns) * side), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * side, i // columns * side))
    return sheet
