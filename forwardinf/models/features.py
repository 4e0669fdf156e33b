"""What likeness is told by: a network's activations, made small."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import adaptive_avg_pool2d

if TYPE_CHECKING:
    from torch import Tensor

LEVEL = 0.15  # share of the noise schedule at which they are read
GRID, FEATURES = 4, 256


def summary_of(activations: Tensor) -> Tensor:
    """Of a map `[b c h w]`, `[b 256]` in float32 on the CPU.

    Averaged over a 4 × 4 grid and projected at random, with a fixed seed, which keeps inner products (Johnson &
    Lindenstrauss 1984).
    """
    grid = adaptive_avg_pool2d(activations.float(), GRID).flatten(1).cpu()
    return grid @ _projection(grid.shape[1])


@cache
def _projection(rows: int) -> Tensor:
    """`[rows 256]`, the same everywhere: drawn on the CPU with a fixed seed."""
    return torch.randn(rows, FEATURES, generator=torch.Generator().manual_seed(0)) / FEATURES**0.5
