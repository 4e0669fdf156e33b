"""Prompts as token ids, and what of a prompt is too long to be read.

Text encoders that are language models are given a prompt within a template, and told which tokens only fill up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer

from ..errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


PADDING = -1  # in the place of a token that only fills up, where a text encoder is told which do
_MARK = "⁂"  # in the place of a prompt, to see what a template puts around it


class PromptReader:
    """What a text encoder is given for a prompt.

    A tokenizer of transformers keeps in itself whether to pad and cut, and every call sets that: two threads that share
    one spoil each other's ids. This has two copies, set once and never again, so that any thread may call it.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        encoder: PreTrainedModel,
        length: int | None = None,
        template: tuple[str, str] = ("", ""),
        masked: bool = False,
    ) -> None:
        """`length` is in tokens, by default the tokenizer's; `template` goes before and after a prompt.

        Raises UnsupportedModel where the tokenizer is not that of the text encoder.
        """
        self.length: int = length or tokenizer.model_max_length
        _require_fitting(tokenizer, encoder, self.length)
        self._before, self._after = template
        self._masked, self._padding = masked, tokenizer.pad_token_id
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
        encodings = self._cut.encode_batch([self._before + prompt + self._after for prompt in prompts])
        ids = torch.tensor([encoding.ids for encoding in encodings])
        if not self._masked:
            return ids
        return ids.masked_fill(torch.tensor([encoding.attention_mask for encoding in encodings]) == 0, PADDING)

    def unmasked(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids as the text encoder takes them, and which of them are of the prompt or its template, `[b t]`."""
        mask = ids != PADDING
        return ids.where(mask, self._padding), mask

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the ids beside the tokenizer, in JSON's types."""
        return {"length": self.length, "template": [self._before, self._after]}

    def unread(self, prompt: str) -> str:
        """The end of a prompt that does not fit into that length; empty where all of it does."""
        encoding = self._whole.encode(self._before + prompt + self._after, add_special_tokens=False)
        room = self.length - self._whole.num_special_tokens_to_add(False)
        if len(encoding.ids) <= room:
            return ""
        return prompt[max(0, encoding.offsets[room][0] - len(self._before)) :]


def _require_fitting(tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel, told: int) -> None:
    words = encoder.get_input_embeddings().num_embeddings
    length = getattr(encoder.config.get_text_config(), "max_position_embeddings", None)  # T5 has relative positions
    if length is not None and told > length:
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


def chat_template(tokenizer: PreTrainedTokenizerBase, **told: bool) -> tuple[str, str]:
    """What a tokenizer's chat template puts before and after a prompt that is asked of a language model."""
    asked = [{"role": "user", "content": _MARK}]
    whole = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True, **told)
    before, _, after = whole.partition(_MARK)
    return before, after
