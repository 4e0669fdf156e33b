"""The mean latents of an index's training images on disk, so that no query has to read every shard for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..files.atomic import write_bytes
from ..files.manifest import Manifest

if TYPE_CHECKING:
    from torch import Tensor

MEAN = "mean.safetensors"


def read_mean(manifest: Manifest) -> Tensor:
    """`[c h w]` in float32; raises MissingAsset or DamagedAsset."""
    from safetensors.torch import load

    return load(manifest.read_bytes(MEAN))["mean"]


def write_mean(folder: Path, mean: Tensor) -> None:
    from safetensors.torch import save

    write_bytes(folder / MEAN, save({"mean": mean.contiguous()}))
