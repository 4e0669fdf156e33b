"""The tokenizer of CLIP, built from its merges, which ship with the package (their terms lie beside them)."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

from tokenizers import AddedToken
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

MERGES = Path(__file__).parent / "original" / "bpe_simple_vocab_16e6.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
SIZE, BYTES, LENGTH = 49_408, 256, 77


def clip_tokenizer(pad: str = END) -> CLIPTokenizer:
    """The tokenizer of CLIP and, padded with “!” (id 0), of OpenCLIP; equal to one loaded from such a model's folder.

    Ids are in the order of Radford et al.'s code (arXiv 2103.00020): bytes, bytes that end a word, merges, start, end.
    """
    merges = _merges()
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    special = {
        name: AddedToken(token, normalized=True)
        for name, token in {"bos_token": START, "eos_token": END, "unk_token": END}.items()
    }
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=list(merges), pad_token=pad, model_max_length=LENGTH, **special)


@cache
def _merges() -> tuple[tuple[str, str], ...]:
    """Those of the file's that the vocabulary has room for; its first line is a heading."""
    with gzip.open(MERGES, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : SIZE - 2 * BYTES - 2 + 1]
    return tuple((first, second) for first, second in map(str.split, lines))
