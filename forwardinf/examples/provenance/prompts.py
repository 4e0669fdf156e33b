"""A prompt as people write it for AUTOMATIC1111, Forge, ComfyUI and Fooocus, as the words that a model reads.

`(word:1.3)`, `((word))` and `[word]` weigh words, and `<lora:name:0.8>` names an adapter. No model here weighs words,
so these are read as plain words, and a note says so.
"""

from __future__ import annotations

import re

_TAG = re.compile(r"<(lora|lyco|hypernet):([^:<>]{1,200})(?::([-+.\d]{1,12}))?[^<>]{0,100}>", re.IGNORECASE)
_WEIGHED = re.compile(r"(?<!\\)\(((?:[^()\\]|\\.){0,1000}):\s?[-+]?\d{0,6}\.?\d{1,6}\s?\)")
_BARE = re.compile(r"(?<!\\)\(((?:[^()\\]|\\.){0,1000})\)")
_WEAKENED = re.compile(r"(?<!\\)\[([^\[\]\\:|]{0,1000})\]")
_SCHEDULED = re.compile(r"(?<!\\)\[[^\[\]:|]{0,1000}[:|][^\[\]]{0,1000}\]")
AS_WRITTEN = (
    "{named} in the prompt {is_read} as plain text: no model here weighs words or takes an adapter from a prompt"
)
_DEEPEST, _SHOWN = 10, 60  # parentheses within one another; characters of what is quoted


def plain(written: str) -> tuple[str, list[tuple[str, float | None]], list[str]]:
    """The words of a prompt, the adapters that it names with their weights, and what of it is not honoured."""
    adapters = [(name.strip(), _number(weight)) for _, name, weight in _TAG.findall(written)]
    text, weighed = re.sub(r"\s+", " ", _TAG.sub("", written)), 0
    for pattern in (_WEIGHED, _BARE, _WEAKENED):
        for _ in range(_DEEPEST):
            text, found = pattern.subn(r"\1", text)
            weighed += found
            if not found:
                break
    notes = []
    if weighed:
        notes.append("weights in the file’s prompt, as in (word:1.3), are not applied: the words count alike")
    if _SCHEDULED.search(text):
        notes.append("prompt editing in the file’s prompt, as in [from:to:0.5], is read as it is written")
    text = re.sub(r"\\([()\[\]])", r"\1", text)
    text = re.sub(r" ?,(?: ?,)+", ",", re.sub(r" +", " ", text))
    return text.strip(" ,"), adapters, notes


def as_written(prompt: str) -> str:
    """What a prompt that is read as it stands says in vain; empty where that is nothing.

    Of weights only those with a number, as in (word:1.3): captions have parentheses too.
    """
    found = [match.group() for pattern in (_TAG, _WEIGHED) if (match := pattern.search(prompt))]
    named = " and ".join(f"“{text if len(text) <= _SHOWN else f'{text[:_SHOWN]}…'}”" for text in found)
    return AS_WRITTEN.format(named=named, is_read="are read" if len(found) > 1 else "is read") if found else ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
