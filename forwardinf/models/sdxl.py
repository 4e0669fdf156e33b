"""Stable Diffusion XL: a UNet on latents, conditioned on two text encoders and on a picture's size and crop.

Podell et al. 2023, "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis" (arXiv 2307.01952).
Every picture here is told to be uncropped and of the size that the UNet sees, so only its shape tells one from another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from diffusers import StableDiffusionXLPipeline

from .checkpoint import load_pipeline
from .placing import in_float32
from .unet_latents import LatentDiffusion

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..types import ModelSpec

PIPELINES = ("StableDiffusionXLPipeline",)


class StableDiffusionXL(LatentDiffusion):
    """The UNet reads both encoders' second-to-last hidden states, and the second one's pooled text embedding."""

    family = "Stable Diffusion XL"
    addition = "text_time"
    latent_statistics = True

    def __init__(self, pipeline: StableDiffusionXLPipeline, spec: ModelSpec) -> None:
        self.text_encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
        super().__init__(pipeline, spec, {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"})
        self._empty = self.encode_prompt([""])[0].to(spec.device)  # [2 t]

    @torch.no_grad()
    def encode_image(self, pictures: Sequence[Image.Image]) -> Tensor:
        """As in every family, but in float32 where the autoencoder's configuration says that float16 overflows."""
        if not self.vae.config.force_upcast:
            return super().encode_image(pictures)
        with in_float32(self.vae):
            return super().encode_image(pictures)

    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Token ids of both tokenizers, `[b 2 t]`, padded and cut to the text encoders' length."""
        return torch.stack([reader.ids(prompts) for reader in self._readers], dim=1)

    def _read(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        """Hidden states `[b t hidden]` and the pooled embedding `[b p]`; zeros for no prompt, where so trained."""
        first, second = (
            encoder(ids, output_hidden_states=True)
            for encoder, ids in zip(self.text_encoders, conditioning.unbind(dim=1), strict=True)
        )
        hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        pooled = second.text_embeds
        if self.pipeline.config.force_zeros_for_empty_prompt:
            prompted = (conditioning != self._empty).flatten(1).any(dim=1)  # [b]
            hidden, pooled = hidden * prompted[:, None, None], pooled * prompted[:, None]
        return hidden, pooled

    def _predicted(self, x_t: Tensor, t: Tensor, *read: Tensor) -> Tensor:
        hidden, pooled = read
        height, width = (float(side * self.pipeline.vae_scale_factor) for side in x_t.shape[-2:])
        # Original size, top left of the crop, target size; in float32, where every size is exact.
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], device=x_t.device).expand(len(x_t), -1)
        told = {"text_embeds": pooled, "time_ids": time_ids}
        output: Tensor = self.unet(x_t, t, hidden, added_cond_kwargs=told).sample
        return output

    def _scaled(self, latents: Tensor) -> Tensor:
        """Standardised by channel where the autoencoder's configuration says how, as the pipeline undoes at the end."""
        config = self.vae.config
        if config.latents_mean is None:
            return super()._scaled(latents)
        mean, std = (latents.new_tensor(x).view(1, -1, 1, 1) for x in (config.latents_mean, config.latents_std))
        return (latents - mean) * config.scaling_factor / std

    def _deciding(self) -> dict[str, Any]:
        return {"force_zeros_for_empty_prompt": self.pipeline.config.force_zeros_for_empty_prompt}


def load(spec: ModelSpec) -> StableDiffusionXL:
    """Load a single file, or a folder or Hub id in diffusers' format."""
    needed = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    return StableDiffusionXL(load_pipeline(spec, StableDiffusionXLPipeline, needed, add_watermarker=False), spec)
