"""What tells which pictures look alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


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


@runtime_checkable
class LatentEmbedder(Embedder, Protocol):
    """An embedder that needs of a picture only its latents, so that a picture is encoded once for both."""

    def embed_latents(self, latents: Tensor) -> Tensor:
        """The embeddings of pictures with these latents `[b c h w]`, as the model encodes them."""
