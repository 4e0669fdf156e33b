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
        u = torch.empty(len(example_ids), self.count, dtype=torch.float64)
        noise = torch.empty(len(example_ids), self.count, *shape)
        stream = torch.Generator()  # seeded anew for every draw; making one for each would take most of the time
        for example_id, quantiles, noises in zip(example_ids, u.unbind(), noise.unbind(), strict=True):
            for k, (quantile, eps) in enumerate(zip(quantiles.unbind(), noises.unbind(), strict=True)):
                stream.manual_seed(_key(self.seed, example_id, k))
                quantile.uniform_(generator=stream)
                eps.normal_(generator=stream)
        # The open interval: a quantile of exactly 0 or 1 has no timestep.
        strata = torch.arange(self.count) + u.clamp(1e-6, 1 - 1e-6)
        return Draws((strata / self.count).float(), noise)


def _key(seed: int, example_id: str, draw: int) -> int:
    text = f"{seed}/{draw}/{example_id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
