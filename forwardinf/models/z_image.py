"""Z-Image: a rectified flow whose transformer reads picture and text of a language model as one (arXiv 2511.22699)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import ZImagePipeline

from ..errors import UnsupportedModel
from .checkpoint import load_pipeline
from .flow_latents import PATCH, FlowTransformer, as_map
from .prompts import PromptReader, chat_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from ..types import ModelSpec

PIPELINES = ("ZImagePipeline",)
TOKENS = 512  # of a prompt and its template, as the pipeline cuts them


class ZImage(FlowTransformer):
    """The transformer reads the language model's second-to-last hidden states, and is told 1 − σ.

    It predicts x_0 − ε, the negative of what `noise` has as the target.
    """

    family = "Z-Image"
    packed = False

    def __init__(self, pipeline: ZImagePipeline, spec: ModelSpec) -> None:
        super().__init__(pipeline, spec, {"text_encoder": "tokenizer"})

    def _require_honoured(self, encoders: Sequence[str]) -> None:
        super()._require_honoured(encoders)
        config = self.pipeline.transformer.config
        if config.siglip_feat_dim is not None or PATCH not in config.all_patch_size:
            raise UnsupportedModel(
                "The transformer also reads pictures (siglip_feat_dim), or takes tokens of another size "
                "(all_patch_size) than text-to-image checkpoints do. Try Z-Image or Z-Image-Turbo."
            )
        self._require_widths({"cap_feat_dim": self.pipeline.text_encoder.config.get_text_config().hidden_size})

    def _reader(self, tokenizer: Any, encoder: Any) -> PromptReader:  # noqa: ANN401
        template = chat_template(tokenizer, enable_thinking=True)
        return PromptReader(tokenizer, encoder, TOKENS, template, masked=True)

    def _read(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        """Hidden states `[b t hidden]`, and which of them are of the prompt `[b t]`."""
        ids, mask = self._readers[0].unmasked(conditioning)
        states = self.pipeline.text_encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return states.hidden_states[-2], mask

    def _predicted(self, x_t: Tensor, t: Tensor, *read: Tensor) -> Tensor:
        texts = [row[of_prompt] for row, of_prompt in zip(*read, strict=True)]
        output = self.denoiser(list(x_t.unsqueeze(2).unbind()), (1000 - t) / 1000, texts).sample
        return -torch.stack(output).squeeze(2)

    def _watched(self) -> nn.Module:
        block: nn.Module = self.denoiser.layers[(len(self.denoiser.layers) - 1) // 2]
        return block

    def _map_of(self, output: Any, latents: Tensor) -> Tensor:  # noqa: ANN401
        """Of the sequence, in which the picture comes first."""
        rows, columns = (side // PATCH for side in latents.shape[-2:])
        return as_map(output[:, : rows * columns], rows)


def load(spec: ModelSpec) -> ZImage:
    """Load a folder or Hub id in diffusers' format."""
    needed = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    return ZImage(load_pipeline(spec, ZImagePipeline, needed), spec)
