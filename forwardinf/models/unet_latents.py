"""What families of diffusion models with a UNet on latents have in common: encoding, noising, targets, moved weights.

A family says how its text encoders read a batch's conditioning, and what its UNet is told of that. The training target
(noise, v or the latents themselves) is read from the checkpoint's scheduler.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from ..errors import InvalidRequest, UnsupportedModel
from ..types import Draws, LatentBatch, ModelSpec
from .checkpoint import require_device
from .generation import GenerationRequest

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, SchedulerMixin
    from PIL import Image
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

WEIGHT_PATTERNS = {
    "cross-attention k,v": r"\.attn2\.to_[kv]\.weight$",
    "attention": r"\.attn[12]\.",
    "all": r"",
}
_SCHEDULE = (
    "prediction_type",
    "num_train_timesteps",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "trained_betas",
    "rescale_betas_zero_snr",
)
FEATURE_LEVEL = 0.15  # share of the noise schedule at which features are read
FEATURE_GRID = 4
FEATURES = 256


class LatentDiffusion(ABC):
    """A PictureModel around a diffusers pipeline, which stays in evaluation mode."""

    def __init__(self, pipeline: DiffusionPipeline, spec: ModelSpec, text_encoders: Sequence[Module]) -> None:
        require_device(spec.device)
        self.spec = spec
        self.pipeline = pipeline.to(spec.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.unet, self.vae = pipeline.unet.to(memory_format=torch.channels_last), pipeline.vae
        networks = (self.unet, self.vae, *text_encoders)
        for module in networks:
            module.eval().requires_grad_(False)
        self._tunable = _matching(dict(self.unet.named_parameters()), spec.tunable)
        for parameter in self._tunable.values():
            parameter.requires_grad_(True)
        self._target = _target_of(pipeline.scheduler)
        self._alphas = pipeline.scheduler.alphas_cumprod.to(spec.device, torch.float32)
        self.picture_size: int = self.unet.config.sample_size * pipeline.vae_scale_factor
        self.fingerprint = _fingerprint(networks, self._deciding())

    @abstractmethod
    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Token ids `[b ...]`, as `_read` takes them."""

    @abstractmethod
    def _read(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        """What the text encoders make of `[b ...]` token ids: hidden states `[b t hidden]`, then what else they say."""

    def _answer(self, x_t: Tensor, t: Tensor, *read: Tensor) -> Tensor:
        """The UNet's output for noised latents, timesteps and what `_read` gave, a row each."""
        output: Tensor = self.unet(x_t, t, *read).sample
        return output

    def _deciding(self) -> dict[str, Any]:
        """Configuration that decides a loss beside the weights, in JSON's types."""
        # The schedule as it is written: as computed, its last bits differ from one kind of processor to another.
        return {name: self.pipeline.scheduler.config.get(name) for name in _SCHEDULE}

    @torch.no_grad()
    def encode_image(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Posterior means of square RGB pictures of `picture_size`, times the scaling factor, `[b c h w]`."""
        pixels = np.stack([np.asarray(p, dtype=np.float32) for p in pictures]) / 127.5 - 1  # [b h w 3]
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.vae.device, self.vae.dtype)
        return self.vae.encode(x).latent_dist.mean * self.vae.config.scaling_factor

    def unread_text(self, prompt: str) -> str:
        """The end of a prompt that lies beyond what the text encoder reads; empty where it reads all."""
        tokenizer = self.pipeline.tokenizer
        encoded = tokenizer(prompt, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
        room = tokenizer.model_max_length - 2  # start and end
        return prompt[encoded.offset_mapping[room][0] :] if len(encoded.input_ids) > room else ""

    def tunable_parameters(self) -> dict[str, Tensor]:
        return dict(self._tunable)

    def loss(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """Mean squared error against the scheduler's target, `[b d]` (Ho et al. 2020, eq. 14; v: Salimans & Ho 2022).

        The squared error is taken in float32 whatever dtype the UNet runs in.
        """
        return self.loss_and_size(batch, draws)[0]

    def loss_and_size(self, batch: LatentBatch, draws: Draws) -> tuple[Tensor, Tensor]:
        predicted, x_0, eps, alpha = self._denoised(batch, draws)
        error = predicted - self._target(x_0, eps, alpha)
        loss, size = (x.square().mean(dim=(1, 2, 3)).view(draws.u.shape) for x in (error, predicted))
        return loss, size

    def prediction(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """The UNet's output, of whichever prediction type, `[b d c h w]`."""
        return self._denoised(batch, draws)[0].unflatten(0, draws.u.shape)

    def _denoised(self, batch: LatentBatch, draws: Draws) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The UNet's output with x_0, ε and ᾱ that it was asked with, `[bd …]`; a quantile u is timestep ⌊u·T⌋."""
        d = draws.u.shape[1]
        device, dtype = self.unet.device, self.unet.dtype
        t = (draws.u.flatten() * len(self._alphas)).long().to(device)  # [bd]
        eps = draws.noise.flatten(0, 1).to(device, torch.float32)  # [bd c h w]
        x_0 = batch.latents.to(device, torch.float32).repeat_interleave(d, dim=0)
        alpha = self._alphas[t].view(-1, 1, 1, 1)
        x_t = alpha.sqrt() * x_0 + (1 - alpha).sqrt() * eps
        with torch.no_grad():
            read = [part.to(dtype).repeat_interleave(d, dim=0) for part in self._read(batch.conditioning.to(device))]
        return self._answer(x_t.to(dtype), t, *read).float(), x_0, eps, alpha

    @torch.no_grad()
    def features(self, latents: Tensor) -> Tensor:
        """Activations behind an upper block of the UNet on clean latents and an empty prompt, `[b 256]` in float32.

        The block and the low noise level follow DIFT (Tang et al. 2023, arXiv 2306.03881); instead of adding noise,
        latents are only scaled to the level. Activations are averaged over a 4 × 4 grid and projected at random, with
        a fixed seed, which keeps inner products (Johnson & Lindenstrauss 1984).
        """
        blocks, seen = self.unet.up_blocks, []
        timestep = int(FEATURE_LEVEL * len(self._alphas))
        x_t = (latents.to(self.unet.device) * self._alphas[timestep].sqrt()).to(self.unet.dtype)
        nothing = self._read(self.encode_prompt([""]).to(self.unet.device))
        read = [part.to(self.unet.dtype).expand(len(x_t), *part.shape[1:]) for part in nothing]
        hook = blocks[(len(blocks) - 1) // 2].register_forward_hook(lambda _block, _inputs, output: seen.append(output))
        try:
            self._answer(x_t, torch.tensor(timestep, device=self.unet.device), *read)
        finally:
            hook.remove()
        grid = adaptive_avg_pool2d(seen[0].float(), FEATURE_GRID).flatten(1).cpu()
        return grid @ _projection(grid.shape[1])

    @contextmanager
    def with_deltas(self, deltas: dict[str, Tensor]) -> Iterator[None]:
        kept = {name: self._tunable[name].detach().clone() for name in deltas}
        try:
            with torch.no_grad():
                for name, delta in deltas.items():
                    self._tunable[name].add_(delta)
            yield
        finally:
            with torch.no_grad():
                for name, weights in kept.items():
                    self._tunable[name].copy_(weights)

    @torch.no_grad()
    def generate(
        self, request: GenerationRequest, on_step: Callable[[int, int], None] = lambda done, total: None
    ) -> Image.Image:
        """The picture that `request` asks for; the same request gives the same picture on the same machine."""

        def report(_pipeline: object, step: int, _timestep: int, tensors: dict) -> dict:
            on_step(step + 1, request.steps)
            return tensors

        random = torch.Generator().manual_seed(request.seed)
        result = self.pipeline(
            request.prompt,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            generator=random,
            callback_on_step_end=report,
        )
        return result.images[0]


def token_ids(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> Tensor:
    """`[b t]`, padded and cut to the length that the tokenizer's text encoder reads."""
    ids: Tensor = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    return ids


def _matching(parameters: dict[str, Tensor], pattern: str) -> dict[str, Tensor]:
    try:
        expression = re.compile(WEIGHT_PATTERNS.get(pattern, pattern))
    except re.error as error:
        raise InvalidRequest(f"The weight pattern “{pattern}” is not a regular expression: {error}.") from error
    chosen = {name: p for name, p in parameters.items() if expression.search(name)}
    if not chosen:
        known = ", ".join(f"“{name}”" for name in WEIGHT_PATTERNS)
        raise InvalidRequest(f"No weight of the UNet matches “{pattern}”. Try {known}, or part of a weight's name.")
    return chosen


@cache
def _projection(rows: int) -> Tensor:
    """`[rows 256]`, the same everywhere: drawn on the CPU with a fixed seed."""
    return torch.randn(rows, FEATURES, generator=torch.Generator().manual_seed(0)) / FEATURES**0.5


def _fingerprint(networks: Sequence[Module], deciding: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for module in networks:
        for name, weights in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    digest.update(json.dumps(deciding, sort_keys=True, default=list).encode())
    return digest.hexdigest()


def _target_of(scheduler: SchedulerMixin) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if not hasattr(scheduler, "alphas_cumprod"):
        raise UnsupportedModel(
            f"The scheduler {type(scheduler).__name__} has no noise schedule ᾱ, so the training loss is not known. "
            "Try the checkpoint with the scheduler that it was trained with, such as DDPMScheduler."
        )
    kind = scheduler.config.prediction_type
    if kind not in _TARGETS:
        raise UnsupportedModel(f"The scheduler's prediction type “{kind}” is not one of {list(_TARGETS)}.")
    return _TARGETS[kind]


def _noise(x_0: Tensor, eps: Tensor, alpha: Tensor) -> Tensor:
    return eps


def _velocity(x_0: Tensor, eps: Tensor, alpha: Tensor) -> Tensor:
    return alpha.sqrt() * eps - (1 - alpha).sqrt() * x_0


def _latents(x_0: Tensor, eps: Tensor, alpha: Tensor) -> Tensor:
    return x_0


_TARGETS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "epsilon": _noise,
    "v_prediction": _velocity,
    "sample": _latents,
}
