"""What makes two pictures look alike: embeddings of pictures, whose inner product is their visual similarity.

`unet` and `vae` look through the attributed model's own eyes and need nothing else; any CLIP or DINOv2 checkpoint of
transformers can be used instead. Similarity says what looks alike, influence what shaped a picture: neither implies
the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import UnsupportedModel

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..models import PictureModel

OF_THE_MODEL = ("unet", "vae")  # each a file here that defines `load(model) -> Embedder`


class Embedder(Protocol):
    """Pictures to unit vectors; the same picture gives the same vector."""

    @property
    def name(self) -> str:
        """What `load_embedder` takes; of a folder only its own name, which says nothing of the machine."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the weights that decide an embedding."""

    def embed(self, pictures: Sequence[Image]) -> Tensor:
        """RGB pictures of any size to float32 embeddings `[b f]` of length 1, on the CPU."""


def load_embedder(name: str, model: PictureModel) -> Embedder:
    """The embedder called `unet` or `vae`, which looks through `model`, or a Hub id or folder of transformers.

    Raises UnsupportedModel where `name` is none of these or cannot be loaded.
    """
    if name in OF_THE_MODEL:
        embedder: Embedder = import_module(f"{__name__}.{name}").load(model)
        return embedder
    if "/" not in name and not Path(name).is_dir():
        raise UnsupportedModel(
            f"There is no embedder “{name}”. Try “unet” or “vae”, which need nothing else, or the Hub id or folder "
            "of a CLIP or DINOv2 checkpoint, such as facebook/dinov2-small."
        )
    from .pretrained import load

    return load(name, model.spec.device)
