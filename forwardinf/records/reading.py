"""How much of a prompt a model makes sense of, told with every answer and every picture that is drawn from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..examples.provenance.prompts import as_written

if TYPE_CHECKING:
    from ..models.protocol import PromptEncoder

NONE_READ = "This model is unconditional: it reads no prompt."
UNREAD = "The prompt is longer than the model reads. This end of it was ignored: “{end}”."


def reading_notes(model: PromptEncoder, prompt: str) -> tuple[str, ...]:
    """In sentences, what of a prompt is not read or not as it was meant; none where all of it is."""
    if not model.reads_prompts:
        return (NONE_READ,) if prompt.strip() else ()
    unread, vain = model.unread_text(prompt), as_written(prompt)
    return (*([UNREAD.format(end=_ending(unread))] if unread else ()), *([f"{vain}."] if vain else ()))


def _ending(text: str, longest: int = 80) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest // 2].rstrip()} … {text[-longest // 2 :].lstrip()}"
