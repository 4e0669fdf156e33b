"""What an embedder is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..models.protocol import PictureEncoder


class Embedder(Protocol):
    """Turns pictures into unit vectors, the same picture always into the same vector."""

    @property
    def name(self) -> str:
        """What `load_embedder` takes; for a folder its last part, without the path on this machine."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides an embedding: weights, configuration, how pictures are prepared."""

    def embed(self, pictures: Sequence[Image]) -> Tensor:
        """RGB pictures of any size to float32 embeddings `[b f]` of length 1, on the CPU."""


@runtime_checkable
class LatentEmbedder(Embedder, Protocol):
    """An embedder that needs of a picture only its latents, so that a picture is encoded once for both."""

    def embed_latents(self, latents: Tensor) -> Tensor:
        """The embeddings of pictures with these latents `[b c h w]`, as the model encodes them."""


def by_latents(embedder: LatentEmbedder, model: PictureEncoder, pictures: Sequence[Image]) -> Tensor:
    """The embeddings of RGB pictures of any size as the model is shown them, together where they get one shape."""
    import torch

    shown = [model.fit.of(picture) for picture in pictures]
    batches = [shown] if len({picture.size for picture in shown}) == 1 else [[picture] for picture in shown]
    return torch.cat([embedder.embed_latents(model.encode_image(batch)) for batch in batches])
