"""Embedders, found by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ..errors import UnsupportedModel
from ..models.protocol import PictureModel
from .protocol import Embedder

SHIPPED = ("unet", "vae", "artwork")  # each a file here that defines `load(model) -> Embedder`


def load_embedder(name: str, model: PictureModel) -> Embedder:
    """The embedder `unet` or `vae`, which use `model`, `artwork`, or a Hub id or folder of transformers.

    Raises UnsupportedModel where `name` is none of these or cannot be loaded.
    """
    if name in SHIPPED:
        embedder: Embedder = import_module(f"{__package__}.{name}").load(model)
        return embedder
    if "/" not in name and not Path(name).is_dir():
        raise UnsupportedModel(
            f"There is no embedder “{name}”. Try “unet” or “vae”, which need nothing else, “artwork” for pictures "
            "like the shipped ones, or the Hub id or folder of a CLIP or DINOv2 checkpoint, such as "
            "facebook/dinov2-small."
        )
    from .pretrained import load

    return load(name, model.spec.device)
