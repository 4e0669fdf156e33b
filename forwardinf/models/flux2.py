"""FLUX.2 klein: a rectified flow on tokens of latents, whose transformer reads three layers of a language model.

Black Forest Labs 2026 (https://bfl.ai/blog/flux2-klein-towards-interactive-visual-intelligence).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import Flux2KleinPipeline

from .checkpoint import load_pipeline
from .flow_latents import PATCH, FlowTransformer, as_map, pack
from .prompts import PromptReader, chat_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers.configuration_utils import FrozenDict
    from torch import Tensor

    from ..types import ModelSpec

PIPELINES = ("Flux2KleinPipeline",)
TOKENS = 512  # of a prompt and its template, as the pipeline cuts them and fills them up
LAYERS = (9, 18, 27)  # of the language model, as the pipeline reads them


class Flux2Klein(FlowTransformer):
    """What is noised are the autoencoder's latents in tokens of 2 × 2, standardised by its batch norm's statistics.

    Few-step sampling shifts the pipeline's schedule further than many-step sampling does; losses are taken at the
    scheduler's own shift for the picture's size.
    """

    family = "FLUX.2 klein"
    patch_size = 1

    def __init__(self, pipeline: Flux2KleinPipeline, spec: ModelSpec) -> None:
        super().__init__(pipeline, spec, {"text_encoder": "tokenizer"})

    def _require_honoured(self, encoders: Sequence[str]) -> None:
        super()._require_honoured(encoders)
        width = self.pipeline.text_encoder.config.get_text_config().hidden_size
        self._require_widths({"joint_attention_dim": len(LAYERS) * width})

    def _require_scaling(self, vae: FrozenDict) -> None:
        """Statistics are among the autoencoder's weights, and count as such."""

    def _reader(self, tokenizer: Any, encoder: Any) -> PromptReader:  # noqa: ANN401
        template = chat_template(tokenizer, enable_thinking=False)
        return PromptReader(tokenizer, encoder, TOKENS, template, masked=True)

    def _read(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        """Hidden states of three layers side by side, `[b t hidden]`, also of what fills up, as the pipeline does."""
        ids, mask = self._readers[0].unmasked(conditioning)
        states = self.pipeline.text_encoder(
            input_ids=ids, attention_mask=mask.long(), output_hidden_states=True, use_cache=False
        ).hidden_states
        return (torch.cat([states[layer] for layer in LAYERS], dim=-1),)

    def _predicted(self, x_t: Tensor, t: Tensor, *read: Tensor) -> Tensor:
        (hidden,) = read
        b, _, h, w = x_t.shape
        output = self.denoiser(
            hidden_states=x_t.flatten(2).transpose(1, 2),
            timestep=t / 1000,
            guidance=None,
            encoder_hidden_states=hidden,
            txt_ids=_positions(1, 1, hidden.shape[1]).to(x_t.device).expand(b, -1, -1),
            img_ids=_positions(h, w, 1).to(x_t.device).expand(b, -1, -1),
        ).sample
        return as_map(output, h)

    def _map_of(self, output: Any, latents: Tensor) -> Tensor:  # noqa: ANN401
        return as_map(output[1], latents.shape[-2])

    def _scaled(self, latents: Tensor) -> Tensor:
        """As tokens of 2 × 2 latents, `[b 4c h/2 w/2]`, standardised by channel."""
        vae = self.pipeline.vae
        tokens = as_map(pack(latents), latents.shape[-2] // PATCH)
        mean, var = (x.view(-1, 1, 1) for x in (vae.bn.running_mean, vae.bn.running_var))
        return (tokens - mean) / (var + vae.config.batch_norm_eps).sqrt()


def _positions(rows: int, columns: int, words: int) -> Tensor:
    """Where each token is, `[1 n 4]`: at time 0, in the picture row by row, or in the text."""
    return torch.cartesian_prod(*(torch.arange(count) for count in (1, rows, columns, words)))[None]


def load(spec: ModelSpec) -> Flux2Klein:
    """Load a folder or Hub id in diffusers' format."""
    needed = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    return Flux2Klein(load_pipeline(spec, Flux2KleinPipeline, needed), spec)
