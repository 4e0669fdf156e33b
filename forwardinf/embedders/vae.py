"""The attributed model's latents, averaged over a coarse grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

from torch.nn.functional import adaptive_avg_pool2d, normalize

from .protocol import by_latents

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..models.protocol import PictureModel

MAX_FEATURES = 256


@dataclass(frozen=True)
class VAEEmbedder:
    """Pictures are similar when they have the same colours and shapes at the same places; the cheapest embedder."""

    model: PictureModel
    name: str = "vae"

    @property
    def fingerprint(self) -> str:
        return self.model.fingerprint

    def embed(self, pictures: Sequence[Image]) -> Tensor:
        return by_latents(self, self.model, pictures)

    def embed_latents(self, latents: Tensor) -> Tensor:
        grid = max(1, isqrt(MAX_FEATURES // latents.shape[1]))
        return normalize(adaptive_avg_pool2d(latents.float().cpu(), grid).flatten(1), dim=1)


def load(model: PictureModel) -> VAEEmbedder:
    return VAEEmbedder(model)
