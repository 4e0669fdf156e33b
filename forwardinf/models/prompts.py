"""Prompts as token ids, and what of a prompt is too long to be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer

from ..errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class PromptReader:
    """What a text encoder is given for a prompt.

    A tokenizer of transformers keeps in itself whether to pad and cut, and every call sets that: two threads that share
    one spoil each other's ids. This has two copies, set once and never again, so that any thread may call it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel) -> None:
        """Raises UnsupportedModel where the tokenizer is not that of the text encoder."""
        self.length: int = tokenizer.model_max_length
        _require_fitting(tokenizer, encoder)
        self._cut = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._cut.enable_truncation(self.length, direction=tokenizer.truncation_side)
        self._cut.enable_padding(
            direction=tokenizer.padding_side,
            pad_id=tokenizer.pad_token_id,
            pad_type_id=tokenizer.pad_token_type_id,
            pad_token=tokenizer.pad_token,
            length=self.length,
        )
        self._whole = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._whole.no_truncation()
        self._whole.no_padding()

    def ids(self, prompts: Sequence[str]) -> Tensor:
        """Token ids `[b t]`, padded and cut to the length that the text encoder reads."""
        return torch.tensor([encoding.ids for encoding in self._cut.encode_batch(list(prompts))])

    def unread(self, prompt: str) -> str:
        """The end of a prompt that does not fit into that length; empty where all of it does."""
        encoding = self._whole.encode(prompt, add_special_tokens=False)
        room = self.length - self._whole.num_special_tokens_to_add(False)
        return prompt[encoding.offsets[room][0] :] if len(encoding.ids) > room else ""


def _require_fitting(tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel) -> None:
    words, length = encoder.get_input_embeddings().num_embeddings, encoder.config.max_position_embeddings
    if tokenizer.model_max_length > length:
        told = tokenizer.model_max_length
        raise UnsupportedModel(
            f"The tokenizer {f'cuts prompts at {told:,} tokens' if told < 1e6 else 'says no length at which to cut'}, "
            f"but the text encoder reads at most {length:,}. The tokenizer's files may be incomplete, or another's; "
            "try a complete copy of the checkpoint."
        )
    if len(tokenizer) > words:
        raise UnsupportedModel(
            f"The tokenizer has {len(tokenizer):,} tokens, but the text encoder knows {words:,}. They are not of one "
            "checkpoint; try a complete copy of it."
        )
