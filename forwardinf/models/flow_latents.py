"""What families of rectified flow with a transformer on latents share: tokens, the autoencoder, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ..errors import UnsupportedModel
from .adapter_layouts import converted_by
from .adapters import PlacedAdapter
from .denoising import DenoisingModel
from .noise import NoiseSchedule, RectifiedFlow
from .placing import in_float32

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffusers.configuration_utils import FrozenDict
    from PIL import Image
    from torch import Tensor, nn

PATCH = 2  # positions of latents, along each side, that a transformer takes as one token
USUAL_SIDE = 1024  # of pictures, where neither transformer nor autoencoder says another


class FlowTransformer(DenoisingModel):
    """A transformer that predicts the velocity from pictures to noise, reading text and picture as one sequence."""

    denoiser_name = "transformer"
    packed: ClassVar[bool] = True  # whether its channels are those of a whole token
    guidance: ClassVar[bool] = False  # whether a network that takes its guidance as a number can be told one

    def _require_honoured(self, encoders: Sequence[str]) -> None:
        config = self.pipeline.transformer.config
        channels = self._channels() * (PATCH**2 if self.packed else 1)
        if config.in_channels != channels:
            raise UnsupportedModel(
                f"The transformer takes {config.in_channels} channels, but the autoencoder's latents give {channels}: "
                f"it needs another picture beside the prompt, as models for inpainting, editing and control do. {_BASE}"
            )
        if config.get("guidance_embeds") and not self.guidance:
            raise UnsupportedModel(
                "The transformer takes a guidance scale (guidance_embeds), which this family's pipeline does not give. "
                + _BASE
            )
        if config.get("patch_size", PATCH) != (self.patch_size or config.get("patch_size", PATCH)):
            raise UnsupportedModel(f"The transformer's patch_size is {config.patch_size}; {self.patch_size} is known.")
        self._require_scaling(self.pipeline.vae.config)

    patch_size: ClassVar[int | None] = None  # as the transformer's configuration has to have it; None: it has none

    def _require_widths(self, hidden: Mapping[str, int]) -> None:
        """Raise UnsupportedModel where the transformer reads another number than the encoders give, by its setting."""
        for setting, given in hidden.items():
            if (read := self.pipeline.transformer.config[setting]) != given:
                raise UnsupportedModel(
                    f"The transformer reads {read} numbers of text ({setting}), but the text encoders here give "
                    f"{given}. They are not of one checkpoint; try a complete copy of it."
                )

    def _require_scaling(self, vae: FrozenDict) -> None:
        unread = [name for name in ("latents_mean", "latents_std") if vae.get(name) is not None]
        if unread or vae.shift_factor is None:
            told = f"has {' and '.join(unread)}, which" if unread else "has no shift_factor, which"
            raise UnsupportedModel(
                f"The autoencoder's configuration {told} this family's pipeline does not do without or does not read, "
                "so it is not known on which latents the transformer was trained. Try the checkpoint's original "
                "autoencoder."
            )

    def _channels(self) -> int:
        return int(self.pipeline.vae.config.latent_channels)

    def _usual_side(self) -> int:
        vae = self.pipeline.vae.config
        said = "sample_size" in vae and "sample_size" not in vae.get("_use_default_values", ())
        return int(vae.sample_size) if said else USUAL_SIDE

    def _unit(self) -> int:
        return int(self.pipeline.vae_scale_factor) * PATCH

    def _schedule(self) -> NoiseSchedule:
        tokens = (self.picture_size // self._unit()) ** 2
        return RectifiedFlow.of(self.pipeline.scheduler, self.spec.device, tokens)

    def _placed(self, networks: Mapping[str, Any]) -> PlacedAdapter | None:
        if self.spec.adapter is None:
            return None
        convert = converted_by(type(self.pipeline))
        return PlacedAdapter.read(self.spec.adapter, networks, self.denoiser_name, convert)

    def _deciding(self) -> dict[str, Any]:
        return {"prompts": [reader.settings for reader in self._readers], "picture_size": self.picture_size}

    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Token ids of all tokenizers in a row, `[b t]`."""
        return torch.cat([reader.ids(prompts) for reader in self._readers], dim=1)

    def _ids(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        """Each tokenizer's part of token ids `[b t]`."""
        return conditioning.split([reader.length for reader in self._readers], dim=1)

    def unread_text(self, prompt: str) -> str:
        """The end of a prompt that none of the text encoders reads."""
        return min((reader.unread(prompt) for reader in self._readers), key=len)

    @torch.no_grad()
    def encode_image(self, pictures: Sequence[Image.Image]) -> Tensor:
        """As in every family, but by the autoencoder in float32: in float16 those of flows overflow."""
        vae = self.pipeline.vae
        with in_float32(vae) if vae.dtype != torch.float32 else nullcontext():
            return super().encode_image(pictures)

    def _latents(self, pixels: Tensor) -> Tensor:
        return self._scaled(self.pipeline.vae.encode(pixels).latent_dist.mean)

    def _scaled(self, latents: Tensor) -> Tensor:
        config = self.pipeline.vae.config
        return (latents - config.shift_factor) * config.scaling_factor

    def _watched(self) -> nn.Module:
        """A block half way."""
        blocks: Sequence[nn.Module] = self.denoiser.transformer_blocks
        return blocks[(len(blocks) - 1) // 2]

    def _map_of(self, output: Any, latents: Tensor) -> Tensor:  # noqa: ANN401
        """Of what a block gives, text and picture, the picture."""
        return as_map(output[1], latents.shape[-2] // PATCH)


def as_map(tokens: Tensor, rows: int) -> Tensor:
    """Tokens of a picture, row by row, `[b hw c]` as `[b c h w]`."""
    return tokens.transpose(1, 2).unflatten(2, (rows, -1))


def pack(latents: Tensor) -> Tensor:
    """Latents `[b c h w]` as tokens of 2 × 2 positions `[b hw/4 4c]`, channel by channel, row by row."""
    b, c, h, w = latents.shape
    split = latents.view(b, c, h // PATCH, PATCH, w // PATCH, PATCH)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * PATCH**2)


def unpack(tokens: Tensor, height: int) -> Tensor:
    """What `pack` made tokens of; `height` is that of the latents."""
    split = tokens.unflatten(1, (height // PATCH, -1)).unflatten(3, (-1, PATCH, PATCH))  # [b h w c 2 2]
    return split.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


_BASE = "Try the text-to-image checkpoint that it was made from."
