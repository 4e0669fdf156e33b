"""Learn the tokenizer's vocabulary from the captions."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 24


def learn_tokenizer(captions: Iterable[str], size: int = 2048) -> CLIPTokenizer:
    """A `CLIPTokenizer` whose byte-level BPE merges come from `captions`; any text in any script can be encoded."""
    blank = CLIPTokenizer(vocab={START: 0, END: 1}, merges=[]).backend_tokenizer
    learner = Tokenizer(BPE(unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    learner.normalizer, learner.pre_tokenizer = blank.normalizer, blank.pre_tokenizer
    alphabet = sorted(ByteLevel.alphabet())
    endings = [f"{byte}</w>" for byte in alphabet]
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=[START, END, *endings],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    vocab = learner.get_vocab()
    merges = [tuple(pair) for pair in _merges(learner)]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def _merges(learner: Tokenizer) -> list[list[str]]:
    import json

    return json.loads(learner.to_str())["model"]["merges"]
