"""How latents are noised, and what a network should predict from them.

A schedule turns a draw's quantile u in (0, 1) into a noise level. Diffusion with a cumulative product ᾱ is here; flow
matching, with its σ, would be another class with the same two methods.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ..errors import UnsupportedModel

if TYPE_CHECKING:
    from diffusers import SchedulerMixin
    from torch import Tensor

# Of a scheduler's configuration, what training depends on; the rest says how pictures are generated.
TRAINING_SETTINGS = (
    "prediction_type",
    "num_train_timesteps",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "trained_betas",
    "rescale_betas_zero_snr",
)


@dataclass(frozen=True)
class Noised:
    """Noised latents with the timestep the network is told and the output it was trained to give for them."""

    x_t: Tensor  # [n c h w] float32
    t: Tensor  # [n] int64
    target: Tensor  # [n c h w] float32


class NoiseSchedule(Protocol):
    """How a family of models was noised in training."""

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the noising and the target, in JSON's types: part of a model's fingerprint."""

    def noised(self, x_0: Tensor, eps: Tensor, u: Tensor) -> Noised:
        """Latents `[n c h w]` with noise of the same shape at quantiles `u [n]`, all on the schedule's device."""

    def scaled(self, x_0: Tensor, u: float) -> tuple[Tensor, Tensor]:
        """Clean latents as they enter a noised mixture at quantile `u`, and its timestep as a scalar."""


@dataclass(frozen=True)
class CumulativeAlphas:
    """x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε (Ho et al. 2020, arXiv 2006.11239, eq. 4); a quantile u is timestep ⌊u·T⌋."""

    alphas: Tensor  # ᾱ [T] float32
    target: Callable[[Tensor, Tensor, Tensor], Tensor]  # of x_0, ε and ᾱ
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, scheduler: SchedulerMixin, device: str) -> CumulativeAlphas:
        """The schedule a checkpoint was trained with; raises UnsupportedModel where its scheduler has no ᾱ."""
        if not hasattr(scheduler, "alphas_cumprod"):
            raise UnsupportedModel(
                f"The scheduler {type(scheduler).__name__} has no noise schedule ᾱ, so the training loss is not known. "
                "Try the checkpoint with the scheduler that it was trained with, such as DDPMScheduler."
            )
        kind = scheduler.config.prediction_type
        if kind not in _TARGETS:
            raise UnsupportedModel(f"The scheduler's prediction type “{kind}” is not one of {list(_TARGETS)}.")
        alphas = scheduler.alphas_cumprod.to(device, torch.float32)
        # The schedule as it is written: as computed, its last bits differ from one kind of processor to another. Only
        # where it is rescaled to end in pure noise does the class decide too: some end at ᾱ = 0, others just above.
        settings = {name: scheduler.config.get(name) for name in TRAINING_SETTINGS}
        rescaled = bool(settings["rescale_betas_zero_snr"])  # some classes do not know it
        ends_at = round(float(alphas[-1]), 9) if rescaled else None
        return cls(alphas, _TARGETS[kind], {**settings, "rescale_betas_zero_snr": rescaled, "ends_at": ends_at})

    def noised(self, x_0: Tensor, eps: Tensor, u: Tensor) -> Noised:
        t = self._timesteps(u)
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        return Noised(alpha.sqrt() * x_0 + (1 - alpha).sqrt() * eps, t, self.target(x_0, eps, alpha))

    def scaled(self, x_0: Tensor, u: float) -> tuple[Tensor, Tensor]:
        t = int(u * len(self.alphas))
        return x_0 * self.alphas[t].sqrt(), torch.tensor(t, device=self.alphas.device)

    def _timesteps(self, u: Tensor) -> Tensor:
        return (u * len(self.alphas)).long().to(self.alphas.device)


def _noise(x_0: Tensor, eps: Tensor, alpha: Tensor) -> Tensor:
    return eps


def _velocity(x_0: Tensor, eps: Tensor, alpha: Tensor) -> Tensor:
    """v of Salimans & Ho 2022 (arXiv 2202.00512), appendix D."""
    return alpha.sqrt() * eps - (1 - alpha).sqrt() * x_0


def _latents(x_0: Tensor, eps: Tensor, alpha: Tensor) -> Tensor:
    return x_0


_TARGETS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "epsilon": _noise,
    "v_prediction": _velocity,
    "sample": _latents,
}
