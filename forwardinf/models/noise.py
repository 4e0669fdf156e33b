"""How latents are noised, and what a network should predict from them.

A schedule turns a draw's quantile u in (0, 1) into a noise level: that of a diffusion with its cumulative product ᾱ,
or that of a rectified flow with its σ.
"""

from __future__ import annotations

import math
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
    t: Tensor  # [n], int64; of a flow σ·T in float32
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


@dataclass(frozen=True)
class RectifiedFlow:
    """x_t = (1 − σ) x_0 + σ ε, of which the velocity ε − x_0 is predicted (Liu et al. 2023, arXiv 2209.03003, eq. 1).

    A quantile u is level ⌊u·T⌋ of σ = 1/T, …, 1, as diffusers' trainers draw them, shifted towards noise by what the
    scheduler says: by `shift`, or by as much as pictures of the model's size are (Esser et al. 2024, arXiv 2403.03206,
    eq. 23, and `calculate_shift` of diffusers' pipelines). Settings that only say which levels a picture is generated
    at, such as `shift_terminal`, are not of training.
    """

    sigmas: Tensor  # [T] float32, rising to 1
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, scheduler: SchedulerMixin, device: str, tokens: int) -> RectifiedFlow:
        """The flow a checkpoint was trained with, on pictures of so many `tokens`; raises UnsupportedModel."""
        if not hasattr(scheduler, "scale_noise") or scheduler.config.get("invert_sigmas"):
            raise UnsupportedModel(
                f"The scheduler {type(scheduler).__name__} has no rectified flow from pictures to noise, so the "
                "training loss is not known. Try the checkpoint with its own FlowMatchEulerDiscreteScheduler."
            )
        config = scheduler.config
        levels = torch.arange(1, config.num_train_timesteps + 1, dtype=torch.float64) / config.num_train_timesteps
        if config.get("use_dynamic_shifting"):
            told = {name: config[name] for name in _BY_SIZE}
            mu = _shift_for(tokens, *(told[name] for name in _BY_SIZE[:4]))
            shift = math.exp(mu) if told["time_shift_type"] == "exponential" else mu
            told["tokens"] = tokens
        else:
            told, shift = {"shift": config.shift}, config.shift
        sigmas = shift * levels / (1 + (shift - 1) * levels)
        settings = {"num_train_timesteps": config.num_train_timesteps, **told}
        return cls(sigmas.to(device, torch.float32), {"flow": settings})

    def noised(self, x_0: Tensor, eps: Tensor, u: Tensor) -> Noised:
        sigma = self.sigmas[(u * len(self.sigmas)).long().to(self.sigmas.device)]
        level = sigma.view(-1, 1, 1, 1)
        return Noised((1 - level) * x_0 + level * eps, sigma * len(self.sigmas), eps - x_0)

    def scaled(self, x_0: Tensor, u: float) -> tuple[Tensor, Tensor]:
        sigma = self.sigmas[int(u * len(self.sigmas))]
        return (1 - sigma) * x_0, sigma * len(self.sigmas)


# Of a flow whose shift depends on the picture's size, what says by how much.
_BY_SIZE = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift", "time_shift_type")


def _shift_for(tokens: int, fewest: int, most: int, low: float, high: float) -> float:
    """The shift at a number of tokens, linear between those at two numbers, and beyond them."""
    return low + (high - low) / (most - fewest) * (tokens - fewest)


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
