"""Qwen-Image: a rectified flow whose transformer reads a language model (Wu et al. 2025, arXiv 2508.02324)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import QwenImagePipeline
from torch.nn.functional import pad

from ..errors import UnsupportedModel
from .checkpoint import load_pipeline
from .flow_latents import PATCH, USUAL_SIDE, FlowTransformer, pack, unpack
from .prompts import PromptReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers.configuration_utils import FrozenDict
    from torch import Tensor

    from ..types import ModelSpec
    from .generation import GenerationRequest

PIPELINES = ("QwenImagePipeline",)
TOKENS = 512  # of a prompt, as the pipeline cuts them behind its template


class QwenImage(FlowTransformer):
    """The transformer reads the language model's last hidden states behind the beginning of the template."""

    family = "Qwen-Image"
    patch_size = 2

    def __init__(self, pipeline: QwenImagePipeline, spec: ModelSpec) -> None:
        self._begin = int(pipeline.prompt_template_encode_start_idx)
        super().__init__(pipeline, spec, {"text_encoder": "tokenizer"})

    def _require_honoured(self, encoders: Sequence[str]) -> None:
        super()._require_honoured(encoders)
        config = self.pipeline.transformer.config
        for name in ("zero_cond_t", "use_additional_t_cond", "use_layer3d_rope"):
            if config.get(name):
                raise UnsupportedModel(
                    f"The transformer is one for editing or for layers ({name}), which also takes pictures. Try "
                    "Qwen-Image, the text-to-image checkpoint."
                )
        width = self.pipeline.text_encoder.config.get_text_config().hidden_size
        self._require_widths({"joint_attention_dim": width})

    def _require_scaling(self, vae: FrozenDict) -> None:
        """Mean and deviation are always in its configuration."""

    def _channels(self) -> int:
        return int(self.pipeline.vae.config.z_dim)

    def _usual_side(self) -> int:
        return USUAL_SIDE

    def _reader(self, tokenizer: Any, encoder: Any) -> PromptReader:  # noqa: ANN401
        before, _, after = self.pipeline.prompt_template_encode.partition("{}")
        return PromptReader(tokenizer, encoder, self._begin + TOKENS, (before, after), masked=True)

    def _deciding(self) -> dict[str, Any]:
        return {**super()._deciding(), "begin": self._begin}

    def _read(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        """Hidden states `[b t hidden]`, filled up with zeros, and which of them are of the prompt `[b t]`."""
        ids, mask = self._readers[0].unmasked(conditioning)
        states = self.pipeline.text_encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        rows = [row[of_prompt][self._begin :] for row, of_prompt in zip(states.hidden_states[-1], mask, strict=True)]
        lengths = torch.tensor([len(row) for row in rows], device=ids.device)
        hidden = torch.stack([pad(row, (0, 0, 0, TOKENS - len(row))) for row in rows])
        return hidden, torch.arange(TOKENS, device=ids.device) < lengths[:, None]

    def _predicted(self, x_t: Tensor, t: Tensor, *read: Tensor) -> Tensor:
        hidden, mask = read
        longest = int(mask.sum(dim=1).max())
        hidden, mask = hidden[:, :longest], mask[:, :longest]
        b, _, h, w = x_t.shape
        output = self.denoiser(
            hidden_states=pack(x_t),
            timestep=t / 1000,
            encoder_hidden_states=hidden,
            encoder_hidden_states_mask=None if mask.all() else mask,
            img_shapes=[[(1, h // PATCH, w // PATCH)]] * b,
        ).sample
        return unpack(output, h)

    def _latents(self, pixels: Tensor) -> Tensor:
        """Posterior means of films of one picture, standardised by channel."""
        vae = self.pipeline.vae
        latents = vae.encode(pixels.unsqueeze(2)).latent_dist.mean.squeeze(2)
        mean, std = (latents.new_tensor(x).view(-1, 1, 1) for x in (vae.config.latents_mean, vae.config.latents_std))
        return (latents - mean) / std

    def _told(self, request: GenerationRequest) -> dict[str, Any]:
        return {"true_cfg_scale": request.guidance, "negative_prompt": " "}


def load(spec: ModelSpec) -> QwenImage:
    """Load a folder or Hub id in diffusers' format."""
    needed = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    return QwenImage(load_pipeline(spec, QwenImagePipeline, needed), spec)
