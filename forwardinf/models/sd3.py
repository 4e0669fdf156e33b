"""Stable Diffusion 3 and 3.5: a rectified flow whose transformer reads two CLIP text encoders and T5.

Esser et al. 2024, "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis" (arXiv 2403.03206).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import StableDiffusion3Pipeline
from torch.nn.functional import pad

from .checkpoint import load_pipeline
from .flow_latents import FlowTransformer
from .prompts import PromptReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..types import ModelSpec

PIPELINES = ("StableDiffusion3Pipeline",)
T5_TOKENS = 256  # as the pipeline cuts prompts for T5


class StableDiffusion3(FlowTransformer):
    """The transformer reads second-to-last hidden states of CLIP, padded to T5's width, before those of T5.

    A checkpoint may lack T5, the third encoder, in whose place are zeros: in training each encoder was left out at
    times.
    """

    family = "Stable Diffusion 3.x"
    packed, patch_size = False, 2

    def __init__(self, pipeline: StableDiffusion3Pipeline, spec: ModelSpec) -> None:
        encoders = {f"text_encoder{n}": f"tokenizer{n}" for n in ("", "_2", "_3")}
        if pipeline.text_encoder_3 is None:
            del encoders["text_encoder_3"]
        super().__init__(pipeline, spec, encoders)

    def _require_honoured(self, encoders: Sequence[str]) -> None:
        super()._require_honoured(encoders)
        first, second, *third = (getattr(self.pipeline, name).config for name in encoders)
        self._require_widths({"pooled_projection_dim": first.projection_dim + second.projection_dim})
        for t5 in third:
            self._require_widths({"joint_attention_dim": t5.d_model})

    def _usual_side(self) -> int:
        return int(self.pipeline.transformer.config.sample_size * self.pipeline.vae_scale_factor)

    def _reader(self, tokenizer: Any, encoder: Any) -> PromptReader:  # noqa: ANN401
        of_t5 = encoder is self.pipeline.text_encoder_3
        return PromptReader(tokenizer, encoder, T5_TOKENS if of_t5 else self.pipeline.tokenizer.model_max_length)

    def _read(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        """Hidden states `[b t hidden]` and both pooled embeddings `[b p]`."""
        first, second, *third = self._ids(conditioning)
        clip = [
            encoder(ids, output_hidden_states=True)
            for encoder, ids in ((self.pipeline.text_encoder, first), (self.pipeline.text_encoder_2, second))
        ]
        hidden = torch.cat([one.hidden_states[-2] for one in clip], dim=-1)
        pooled = torch.cat([one.text_embeds for one in clip], dim=-1)
        width = self.pipeline.transformer.config.joint_attention_dim
        t5 = self.pipeline.text_encoder_3(third[0])[0] if third else hidden.new_zeros(len(hidden), T5_TOKENS, width)
        return torch.cat([pad(hidden, (0, width - hidden.shape[-1])), t5], dim=1), pooled

    def _predicted(self, x_t: Tensor, t: Tensor, *read: Tensor) -> Tensor:
        hidden, pooled = read
        output: Tensor = self.denoiser(
            hidden_states=x_t, timestep=t, encoder_hidden_states=hidden, pooled_projections=pooled
        ).sample
        return output


def load(spec: ModelSpec) -> StableDiffusion3:
    """Load a folder or Hub id in diffusers' format."""
    needed = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    return StableDiffusion3(load_pipeline(spec, StableDiffusion3Pipeline, needed), spec)
