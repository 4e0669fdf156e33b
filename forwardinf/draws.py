"""The draws of an example: a pure function of (seed, example id, draw).

A base pass and a mirrored pass must see the same timestep and noise for an example, whatever the batch size, shard
order, device or interruption. So nothing here depends on position or on generator state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .types import Draws


@dataclass(frozen=True)
class DrawPlan:
    """`count` draws per example, stratified over the noise schedule.

    Draw k of an example has its quantile in ((k, k+1) / count), so that the draws of each example cover the whole
    schedule, and noise from its own stream.
    """

    seed: int
    count: int

    def draws(self, example_ids: Sequence[str], shape: Sequence[int]) -> Draws:
        """The draws of some examples: `u [b d]` and `noise [b d c h w]` in float32 on the CPU."""
        rows = [self._draws_of(example_id, shape) for example_id in example_ids]
        return Draws(torch.stack([u for u, _ in rows]), torch.stack([noise for _, noise in rows]))

    def _draws_of(self, example_id: str, shape: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        us, noises = [], []
        for k in range(self.count):
            stream = torch.Generator().manual_seed(_key(self.seed, example_id, k))
            # The open interval: a quantile of exactly 0 or 1 has no timestep.
            jitter = torch.rand((), generator=stream, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
            us.append(((k + jitter) / self.count).float())
            noises.append(torch.randn(shape, generator=stream))
        return torch.stack(us), torch.stack(noises)


def _key(seed: int, example_id: str, draw: int) -> int:
    text = f"{seed}/{draw}/{example_id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
