"""What families of diffusion models with a UNet on latents share: the autoencoder, the UNet, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from .denoising import DenoisingModel
from .honoured import require_honoured, side_of

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import Tensor, nn

    from ..types import ModelSpec


class LatentDiffusion(DenoisingModel):
    """A UNet on latents, which learned by Ho et al. 2020 (arXiv 2006.11239, eq. 14) or v (Salimans & Ho 2022)."""

    addition: ClassVar[str | None] = None  # what the UNet is told beside the prompt, as its addition_embed_type has it
    latent_statistics: ClassVar[bool] = False  # whether latents are standardised where the VAE's configuration says how

    def __init__(self, pipeline: DiffusionPipeline, spec: ModelSpec, encoders: Mapping[str, str]) -> None:
        self.unet, self.vae = pipeline.unet, pipeline.vae
        super().__init__(pipeline, spec, encoders)

    def _require_honoured(self, encoders: Sequence[str]) -> None:
        require_honoured(self.pipeline, self.addition, self.latent_statistics, encoders)

    def _usual_side(self) -> int:
        return side_of(self.unet) * int(self.pipeline.vae_scale_factor)

    def _unit(self) -> int:
        return int(self.pipeline.vae_scale_factor) * 2 ** (len(self.unet.config.block_out_channels) - 1)

    def _predicted(self, x_t: Tensor, t: Tensor, *read: Tensor) -> Tensor:
        output: Tensor = self.unet(x_t, t, *read).sample
        return output

    def _latents(self, pixels: Tensor) -> Tensor:
        """Posterior means, scaled as the UNet sees them."""
        return self._scaled(self.vae.encode(pixels.to(self.vae.dtype)).latent_dist.mean)

    def _scaled(self, latents: Tensor) -> Tensor:
        return latents * self.vae.config.scaling_factor

    def _watched(self) -> nn.Module:
        """An upper block."""
        block: nn.Module = self.unet.up_blocks[(len(self.unet.up_blocks) - 1) // 2]
        return block
