"""Descriptors compared in the directions that tell the shipped training set's pictures apart, whatever their disguise.

It ships in `assets/artwork-embedder`; `forwardinf train embedder` makes it. It needs nothing of the attributed model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config import ASSETS
from ..examples.decoding import to_square
from ..files.atomic import writing
from ..files.identity import digest_of
from ..files.manifest import Manifest
from .descriptors import SIDE, describe

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..models.protocol import PictureModel

FOLDER = ASSETS / "artwork-embedder"
WEIGHTS = "embedder.safetensors"
DESCRIPTORS = 1  # version of what `describe` returns: one fitted to another is of no use


@dataclass(frozen=True)
class Discriminants:
    """Directions among descriptors of `n` numbers."""

    mean: np.ndarray  # [n], of the training images
    likeness: np.ndarray  # [n f], which tell pictures apart, but not a picture from its disguised copies
    meaning: np.ndarray  # [n g], which tell apart what is shown, but not by whom

    def seen(self, descriptors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors `[b f]` and `[b g]` of which picture it is, and of what it shows."""
        centred = descriptors - self.mean
        return unit(centred @ self.likeness), unit(centred @ self.meaning)

    def save(self, folder: Path) -> Path:
        """Write them in half precision with a manifest; returns the folder."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder / WEIGHTS) as aside:
            save_file({name: np.ascontiguousarray(x, np.float16) for name, x in vars(self).items()}, aside)
        Manifest(folder, {}).with_files(WEIGHTS).write()
        return folder


@dataclass(frozen=True)
class ArtworkEmbedder:
    """Pictures are similar when they are one picture, mirrored or otherwise disguised, and when they show the same."""

    discriminants: Discriminants
    fingerprint: str
    name: str = "artwork"

    def embed(self, pictures: Sequence[Image]) -> Tensor:
        """A half of a cosine is that of which picture it is, a half that of what it shows."""
        import torch

        return torch.from_numpy(np.concatenate(self._seen(pictures), axis=1) / np.float32(2**0.5))

    def _seen(self, pictures: Sequence[Image]) -> tuple[np.ndarray, np.ndarray]:
        squares = np.stack([np.asarray(to_square(picture, SIDE)) for picture in pictures])
        return self.discriminants.seen(describe(squares))


def load(model: PictureModel | None = None, folder: Path = FOLDER) -> ArtworkEmbedder:
    """The shipped embedder, whichever `model` is attributed; raises MissingAsset or DamagedAsset."""
    from safetensors.numpy import load as tensors_of

    manifest = Manifest.read(folder)
    tensors = {name: x.astype(np.float32) for name, x in tensors_of(manifest.read_bytes(WEIGHTS)).items()}
    return ArtworkEmbedder(Discriminants(**tensors), digest_of([manifest.fingerprint, DESCRIPTORS]))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors `[... f]` in float32, at length 1; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32)
