"""The mean latents of an index's training images on disk, so that no query has to read every shard for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..files.atomic import write_bytes
from ..files.manifest import Manifest

if TYPE_CHECKING:
    from torch import Tensor

MEAN = "mean.safetensors"


def common_shape(shapes: Sequence[Sequence[int]]) -> Sequence[int]:
    """The shape `[c h w]` in which latents are compared: theirs, or of several a square of the area of the largest."""
    if all(tuple(shape) == tuple(shapes[0]) for shape in shapes):
        return shapes[0]
    side = math.isqrt(max(height * width for _, height, width in shapes))
    return (shapes[0][0], side, side)


def mean_of(batches: Iterable[Tensor], shape: Sequence[int]) -> Tensor:
    """The mean `[c h w]` in float32 of latents `[b c h w]`, each resampled to one shape."""
    import torch

    count, total = 0, torch.zeros((), dtype=torch.float64)
    for latents in batches:
        count += len(latents)
        total = total + resampled(latents.double(), shape).sum(dim=0)
    return (total / count).float()


def resampled(latents: Tensor, shape: Sequence[int]) -> Tensor:
    """Latents `[b c h w]` in the height and width of a shape `[c h w]`, by the mean of what each place covers."""
    from torch.nn.functional import adaptive_avg_pool2d

    same = tuple(latents.shape[1:]) == tuple(shape)
    return latents if same else adaptive_avg_pool2d(latents, (shape[-2], shape[-1]))


def read_mean(manifest: Manifest) -> Tensor:
    """`[c h w]` in float32; raises MissingAsset or DamagedAsset."""
    from safetensors.torch import load

    return load(manifest.read_bytes(MEAN))["mean"]


def write_mean(folder: Path, mean: Tensor) -> None:
    from safetensors.torch import save

    write_bytes(folder / MEAN, save({"mean": mean.contiguous()}))
