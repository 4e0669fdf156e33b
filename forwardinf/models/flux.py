"""FLUX.1 (dev, schnell): a rectified flow whose transformer reads T5, and of CLIP the pooled embedding.

Black Forest Labs 2024 (https://github.com/black-forest-labs/flux).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import FluxPipeline

from .checkpoint import load_pipeline
from .flow_latents import PATCH, FlowTransformer, pack, unpack
from .prompts import PromptReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..types import ModelSpec
    from .generation import GenerationRequest

PIPELINES = ("FluxPipeline",)
GUIDANCE = 3.5  # that a network which takes its guidance as a number is told, as diffusers' trainers tell it (dev)
LONG, SHORT = 512, 256  # tokens that T5 reads: by default, and of schnell, as its own code has it


class Flux(FlowTransformer):
    """Losses are taken at one guidance, as fine-tuning was; the guidance a picture is drawn at is the request's."""

    family = "FLUX.1"
    guidance = True
    patch_size = 1

    def __init__(self, pipeline: FluxPipeline, spec: ModelSpec) -> None:
        encoders = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
        super().__init__(pipeline, spec, encoders)

    def _require_honoured(self, encoders: Sequence[str]) -> None:
        super()._require_honoured(encoders)
        clip, t5 = self.pipeline.text_encoder.config, self.pipeline.text_encoder_2.config
        self._require_widths({"pooled_projection_dim": clip.hidden_size, "joint_attention_dim": t5.d_model})

    def _reader(self, tokenizer: Any, encoder: Any) -> PromptReader:  # noqa: ANN401
        of_t5 = encoder is self.pipeline.text_encoder_2
        return PromptReader(tokenizer, encoder, self._t5_tokens if of_t5 else None)

    @property
    def _t5_tokens(self) -> int:
        """Schnell takes no guidance and shifts no schedule; a fine-tune of dev that takes none shifts it still."""
        shifts = self.pipeline.scheduler.config.get("use_dynamic_shifting")
        return LONG if self.pipeline.transformer.config.guidance_embeds or shifts else SHORT

    def _read(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        """Hidden states of T5 `[b t hidden]` and CLIP's pooled embedding `[b p]`."""
        for_clip, for_t5 = self._ids(conditioning)
        pooled = self.pipeline.text_encoder(for_clip).pooler_output
        return self.pipeline.text_encoder_2(for_t5)[0], pooled

    def _predicted(self, x_t: Tensor, t: Tensor, *read: Tensor) -> Tensor:
        hidden, pooled = read
        b, _, h, w = x_t.shape
        takes_guidance = self.pipeline.transformer.config.guidance_embeds
        output = self.denoiser(
            hidden_states=pack(x_t),
            timestep=t / 1000,
            guidance=torch.full((b,), GUIDANCE, device=x_t.device) if takes_guidance else None,
            encoder_hidden_states=hidden,
            pooled_projections=pooled,
            txt_ids=torch.zeros(hidden.shape[1], 3, device=x_t.device, dtype=x_t.dtype),
            img_ids=_positions(h // PATCH, w // PATCH).to(x_t),
        ).sample
        return unpack(output, h)

    def _deciding(self) -> dict[str, Any]:
        takes_guidance = self.pipeline.transformer.config.guidance_embeds
        return {**super()._deciding(), **({"guidance": GUIDANCE} if takes_guidance else {})}

    def _told(self, request: GenerationRequest) -> dict[str, Any]:
        return {**super()._told(request), "max_sequence_length": self._t5_tokens}


def _positions(rows: int, columns: int) -> Tensor:
    """Where each token of a picture is, row by row, `[n 3]`; the first number is 0 for all."""
    return torch.cartesian_prod(*(torch.arange(count) for count in (1, rows, columns)))


def load(spec: ModelSpec) -> Flux:
    """Load a folder or Hub id in diffusers' format."""
    needed = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    return Flux(load_pipeline(spec, FluxPipeline, needed), spec)
