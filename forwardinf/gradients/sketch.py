"""Random projections that keep inner products on average."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sketch:
    """A random projection that keeps inner products on average: every weight goes, with a random sign, into one sum.

    The count sketch (Charikar et al. 2002), as feature hashing (Weinberger et al. 2009, arXiv 0902.2206) uses it. Its
    cost does not grow with the number of dimensions. The same on every machine, as it is drawn on the CPU from `seed`.
    """

    weights: int
    dimensions: int
    seed: int

    def project(self, vector: Tensor) -> Tensor:
        """`[w]` to `[dimensions]` in float32 on the CPU."""
        sums = torch.zeros(2 * self.dimensions)
        sums.index_add_(0, _slots(self.weights, self.dimensions, self.seed), vector.float().cpu())
        return sums[: self.dimensions] - sums[self.dimensions :]


@lru_cache(maxsize=1)
def _slots(weights: int, dimensions: int, seed: int) -> Tensor:
    """Which sum each weight goes into, `[w]`; one higher by `dimensions` where it is subtracted."""
    random = torch.Generator().manual_seed(seed)
    sums = torch.randint(dimensions, (weights,), generator=random, dtype=torch.int32)
    added = torch.randint(2, (weights,), generator=random, dtype=torch.int8)
    return sums + dimensions * (1 - added.int())
