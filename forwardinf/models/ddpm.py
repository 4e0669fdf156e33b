"""Unconditional diffusion of pixels: a UNet without autoencoder and without text (Ho et al. 2020, arXiv 2006.11239)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import DDPMPipeline
from PIL import Image

from ..errors import UnsupportedModel
from .checkpoint import load_pipeline
from .denoising import DenoisingModel
from .honoured import side_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..types import ModelSpec
    from .generation import GenerationRequest

PIPELINES = ("DDPMPipeline",)


class UnconditionalDiffusion(DenoisingModel):
    """What stands for latents are the pixels themselves, from -1 to 1; captions are shown, and read by nothing."""

    family = "unconditional diffusion"
    reads_prompts = False

    def __init__(self, pipeline: DDPMPipeline, spec: ModelSpec) -> None:
        super().__init__(pipeline, spec, {})

    def _require_honoured(self, encoders: Sequence[str]) -> None:
        config = self.pipeline.unet.config
        if config.in_channels != 3 or config.out_channels != 3:
            raise UnsupportedModel(
                f"The UNet takes {config.in_channels} channels and predicts {config.out_channels}; here pictures have "
                "three, and a variance that is predicted beside them has no known loss. Try one of RGB pictures alone."
            )
        for name, told in _NOT_HONOURED.items():
            if config.get(name):
                raise UnsupportedModel(f"The UNet {told} ({name}), which is not done here. Try one without.")
        side_of(self.pipeline.unet)

    def _usual_side(self) -> int:
        return side_of(self.pipeline.unet)

    def _unit(self) -> int:
        return int(2 ** (len(self.pipeline.unet.config.block_out_channels) - 1))

    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Nothing, `[b 0]`."""
        return torch.zeros(len(prompts), 0, dtype=torch.long)

    def unread_text(self, prompt: str) -> str:
        """All of it."""
        return prompt

    def _read(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        return ()

    def _predicted(self, x_t: Tensor, t: Tensor, *read: Tensor) -> Tensor:
        output: Tensor = self.denoiser(x_t, t).sample
        return output

    def _latents(self, pixels: Tensor) -> Tensor:
        return pixels

    def _watched(self) -> nn.Module:
        """An upper block, as of the UNets on latents."""
        blocks = self.pipeline.unet.up_blocks
        block: nn.Module = blocks[(len(blocks) - 1) // 2]
        return block

    @torch.no_grad()
    def generate(
        self, request: GenerationRequest, on_step: Callable[[int, int], None] = lambda done, total: None
    ) -> Image.Image:
        """A picture by the pipeline's own steps; neither prompt nor guidance is heeded."""
        scheduler, stream = self.pipeline.scheduler, torch.Generator().manual_seed(request.seed)
        scheduler.set_timesteps(request.steps)
        x = torch.randn(1, 3, self.picture_size, self.picture_size, generator=stream).to(self.spec.device)
        for step, t in enumerate(scheduler.timesteps):
            predicted = self.denoiser(self._cast(x), t.to(self.spec.device)).sample.float()
            x = scheduler.step(predicted, t, x, generator=stream).prev_sample
            on_step(step + 1, len(scheduler.timesteps))
        pixels = (x[0].clamp(-1, 1) + 1) * 127.5  # [3 h w]
        return Image.fromarray(pixels.round().byte().permute(1, 2, 0).cpu().numpy().astype(np.uint8))


_NOT_HONOURED = {
    "class_embed_type": "also takes classes",
    "num_class_embeds": "also takes classes",
    "center_input_sample": "was trained on pixels from 0 to 1",
}


def load(spec: ModelSpec) -> UnconditionalDiffusion:
    """Load a folder or Hub id in diffusers' format."""
    return UnconditionalDiffusion(load_pipeline(spec, DDPMPipeline, ("unet", "scheduler")), spec)
