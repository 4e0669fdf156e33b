"""Stable Diffusion 1.x and 2.x, and the shipped model: a UNet on latents, conditioned on a CLIP text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from diffusers import StableDiffusionPipeline

from .checkpoint import load_pipeline
from .unet_latents import LatentDiffusion

if TYPE_CHECKING:
    from torch import Tensor

    from ..types import ModelSpec

PIPELINES = ("StableDiffusionPipeline",)


class StableDiffusion(LatentDiffusion):
    """The UNet reads the text encoder's last hidden states (Rombach et al. 2022, arXiv 2112.10752)."""

    family = "Stable Diffusion 1.x or 2.x"

    def __init__(self, pipeline: StableDiffusionPipeline, spec: ModelSpec) -> None:
        self.text_encoder = pipeline.text_encoder
        super().__init__(pipeline, spec, {"text_encoder": "tokenizer"})

    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Token ids `[b t]`, padded and cut to the text encoder's length."""
        return self._readers[0].ids(prompts)

    def _read(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        return (self.text_encoder(conditioning)[0],)


def load(spec: ModelSpec) -> StableDiffusion:
    """Load a single file, or a folder or Hub id in diffusers' format."""
    needed = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = load_pipeline(spec, StableDiffusionPipeline, needed, **absent)
    return StableDiffusion(pipeline, spec)
