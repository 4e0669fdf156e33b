"""The draws at which losses are taken: a pure function of (seed, example id, draw), or of (seed, draw) alone.

A base pass and a mirrored pass must see the same timestep and noise for an example, whatever the batch size, shard
order, device or interruption. So nothing here depends on position or on generator state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from .errors import InvalidRequest
from .types import Draws


@dataclass(frozen=True)
class DrawPlan:
    """`count` draws stratified over the noise schedule, different for each example or `shared` by all.

    Draw k has its quantile in ((k, k+1) / count), so that the draws of each example cover the whole schedule, and noise
    from a random stream of its own. Where draws are shared, the losses of two examples at one draw differ by the
    examples alone.

    `antithetic` draws 2p and 2p + 1 are a pair: one quantile, with noises ε and −ε, whose errors cancel in part
    (Hammersley & Morton 1956). Pairs are stratified as draws are otherwise. Raises InvalidRequest for an odd `count`.
    """

    seed: int
    count: int
    shared: bool = False
    antithetic: bool = False
    only: tuple[int, ...] | None = None  # the draws that `part` left; None for all

    def __post_init__(self) -> None:
        if self.antithetic and self.count % 2:
            raise InvalidRequest(f"Antithetic draws come in pairs, but {self.count} are wanted. Take an even number.")

    @property
    def nested(self) -> tuple[int, ...]:
        """Its draws in an order of which any first few strata lie evenly in the schedule; pairs stay together.

        Strata in the order of their numbers with reversed bits (van der Corput 1935), noisiest first.
        """
        size = 2 if self.antithetic else 1
        strata, bits = self.count // size, max(1, (self.count // size - 1).bit_length())
        order = (int(f"{n:0{bits}b}"[::-1], 2) for n in range(2**bits))
        return tuple(size * (strata - 1 - n) + k for n in order if n < strata for k in range(size))

    @property
    def taken(self) -> tuple[int, ...]:
        """The numbers of its draws."""
        return tuple(range(self.count)) if self.only is None else self.only

    def part(self, draws: Sequence[int]) -> DrawPlan:
        """These draws alone, each the same as in the whole plan."""
        return replace(self, only=tuple(draws))

    def draws(self, example_ids: Sequence[str], shape: Sequence[int], device: str = "cpu") -> Draws:
        """The draws of some examples: `u [b d]` and `noise [b d c h w]` in float32, drawn on the CPU.

        Those that all examples share are drawn once, kept on the device, and not to be written to.
        """
        examples = len(example_ids)
        if self.shared:
            one = _shared(self, tuple(shape), device)
            return Draws(one.u.expand(examples, -1), one.noise.expand(examples, *one.noise.shape[1:]))
        drawn = self._drawn(example_ids, shape)
        return Draws(drawn.u.to(device), drawn.noise.to(device))

    def _drawn(self, owners: Sequence[str], shape: Sequence[int]) -> Draws:
        size = 2 if self.antithetic else 1
        strata = torch.tensor(self.taken, dtype=torch.long) // size
        u = torch.empty(len(owners), len(strata), dtype=torch.float64)
        noise = torch.empty(len(owners), len(strata), *shape)
        stream = torch.Generator()  # seeded anew for every draw; making one for each would take most of the time
        for owner, quantiles, noises in zip(owners, u.unbind(), noise.unbind(), strict=True):
            for k, quantile, eps in zip(self.taken, quantiles.unbind(), noises.unbind(), strict=True):
                stream.manual_seed(_key(self.seed, owner, k // size))
                quantile.uniform_(generator=stream)
                eps.normal_(generator=stream)
                if k % size:
                    eps.neg_()
        # The open interval, in float32 too: a quantile of exactly 0 or 1 has no timestep.
        places = strata + u.clamp(1e-6, 1 - 1e-6)
        quantiles = (places / (self.count // size)).float().clamp(max=1 - 2**-24)
        return Draws(quantiles, noise)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # a gradient may be taken at them later
def _shared(plan: DrawPlan, shape: tuple[int, ...], device: str) -> Draws:
    drawn = plan._drawn([""], shape)
    return Draws(drawn.u.to(device), drawn.noise.to(device))


def _key(seed: int, owner: str, draw: int) -> int:
    text = f"{seed}/{draw}/{owner}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
