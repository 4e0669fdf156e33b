"""Stable Diffusion 1.x and 2.x, and the shipped model: a UNet on latents, conditioned on a CLIP text encoder.

The training target (noise, v or the latents themselves) is read from the checkpoint's scheduler.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
# Loading a small checkpoint is no news: our own messages are the ones to read.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")

import diffusers.utils.logging
import numpy as np
import torch
import transformers.utils.logging
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

from .. import manifest
from ..errors import DamagedAsset, InvalidRequest, MissingAsset, UnsupportedModel
from ..generation import GenerationRequest
from ..types import Draws, LatentBatch, ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

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


class StableDiffusion:
    """An AttributableModel around a diffusers pipeline, which stays in evaluation mode."""

    def __init__(self, pipeline: StableDiffusionPipeline, spec: ModelSpec) -> None:
        self.spec = spec
        self.pipeline = pipeline.to(spec.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.unet, self.vae, self.text_encoder = pipeline.unet, pipeline.vae, pipeline.text_encoder
        for module in (self.unet, self.vae, self.text_encoder):
            module.eval().requires_grad_(False)
        self._tunable = _matching(dict(self.unet.named_parameters()), spec.tunable)
        for parameter in self._tunable.values():
            parameter.requires_grad_(True)
        self._alphas = pipeline.scheduler.alphas_cumprod.to(spec.device, torch.float32)
        self._target = _target_of(pipeline.scheduler.config.prediction_type)
        self.picture_size: int = self.unet.config.sample_size * pipeline.vae_scale_factor
        self.fingerprint = _fingerprint(pipeline)

    @torch.no_grad()
    def encode_image(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Posterior means of square RGB pictures of `picture_size`, times the scaling factor, `[b c h w]`."""
        pixels = np.stack([np.asarray(p, dtype=np.float32) for p in pictures]) / 127.5 - 1  # [b h w 3]
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.vae.device, self.vae.dtype)
        return self.vae.encode(x).latent_dist.mean * self.vae.config.scaling_factor

    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Token ids `[b t]`, padded and cut to the text encoder's length."""
        tokenizer = self.pipeline.tokenizer
        ids: Tensor = tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids
        return ids

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
        predicted, x_0, eps, alpha = self._denoised(batch, draws)
        error = predicted - self._target(x_0, eps, alpha)
        return error.square().mean(dim=(1, 2, 3)).view(draws.u.shape)

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
            context = self.text_encoder(batch.conditioning.to(device))[0].repeat_interleave(d, dim=0)  # [bd t hidden]
        return self.unet(x_t.to(dtype), t, context.to(dtype)).sample.float(), x_0, eps, alpha

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
        context = self.text_encoder(self.encode_prompt([""]).to(self.unet.device))[0].to(self.unet.dtype)
        hook = blocks[(len(blocks) - 1) // 2].register_forward_hook(lambda _block, _inputs, output: seen.append(output))
        try:
            self.unet(x_t, timestep, context.expand(len(x_t), -1, -1))
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


def load(spec: ModelSpec) -> StableDiffusion:
    """Load a folder or Hub id in diffusers' format, safetensors only; a folder with a manifest is checked first."""
    folder = Path(spec.checkpoint)
    if (folder / manifest.NAME).is_file():
        manifest.verify_manifest(folder)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            spec.checkpoint,
            revision=spec.revision,
            dtype=getattr(torch, spec.dtype),
            use_safetensors=True,
            safety_checker=None,
            requires_safety_checker=False,
        )
    except (OSError, ValueError) as error:
        name = folder.name
        if not folder.exists():
            raise MissingAsset(f"There is no model “{name}”: it is neither a folder nor a Hub id at hand.") from error
        if not (folder / "model_index.json").is_file():
            raise MissingAsset(f"“{name}” has no model_index.json, so it is not a diffusers pipeline.") from error
        why = str(error).replace(str(folder), name)
        raise DamagedAsset(f"The model “{name}” could not be loaded: {why}") from error
    return StableDiffusion(pipeline, spec)


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


def _fingerprint(pipeline: StableDiffusionPipeline) -> str:
    digest = hashlib.sha256()
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        for name, weights in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    # The schedule as it is written, not as it is computed: its last bits differ from one kind of processor to another.
    schedule = {name: pipeline.scheduler.config.get(name) for name in _SCHEDULE}
    digest.update(json.dumps(schedule, sort_keys=True, default=list).encode())
    return digest.hexdigest()


def _target_of(prediction_type: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if prediction_type not in _TARGETS:
        raise UnsupportedModel(f"The scheduler's prediction type “{prediction_type}” is not one of {list(_TARGETS)}.")
    return _TARGETS[prediction_type]


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
