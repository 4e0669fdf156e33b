"""How an untrusted file says that it was generated: with which prompt, seed, sampler, model and adapters."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from ...errors import UnreadablePicture
from ..decoding.picture import MAX_BYTES
from ..decoding.sandbox import answered_apart
from ..decoding.signatures import format_of
from .prompts import plain

CHILD = f"{__package__}.generation_child"
PACKAGES = ("sd_parsers",)
CARRIERS = ("PNG", "JPEG", "WEBP")  # formats that generators write into
LONGEST, MOST_LORAS = 10_000, 30  # characters of a prompt that are looked at
NAME = 200  # characters of everything else
CUT = "the file’s prompt is longer than {limit:,} characters: only its beginning is used"


@dataclass(frozen=True)
class Lora:
    """An adapter that a file says it was made with."""

    name: str
    weight: float | None = None
    hash: str = ""  # as written; empty where it is not stated


@dataclass(frozen=True)
class Generation:
    """What a file says of how it was generated. Somebody stated it; it may be wrong."""

    prompt: str = ""  # the words that a model reads
    written: str = ""  # the prompt as it stands in the file
    negative: str = ""
    program: str = ""  # empty where it is not known
    seed: str = ""
    sampler: str = ""
    model: str = ""  # name
    model_hash: str = ""
    loras: tuple[Lora, ...] = ()
    notes: tuple[str, ...] = ()  # what of it is not honoured

    def shortened(self, limit: int) -> Generation:
        """With a prompt of at most `limit` characters, which ends with a word, and a note where that left some out."""
        if len(self.prompt) <= limit:
            return self
        kept = self.prompt[: limit + 1].rpartition(" ")[0] or self.prompt[:limit]
        return replace(self, prompt=kept.rstrip(" ,"), notes=(*self.notes, CUT.format(limit=limit)))


def read_generation(data: bytes) -> Generation | None:
    """How the bytes of a picture say that they were generated; None where they do not.

    Raises UnreadablePicture where they are no picture, or the search fails.
    """
    if len(data) > MAX_BYTES:
        raise UnreadablePicture(f"has {len(data) / 1e6:,.1f} MB, too many to search. Save it smaller.")
    format = format_of(data)
    if format not in CARRIERS:
        return None
    answer, _ = answered_apart(CHILD, format, data, PACKAGES)
    try:
        found = json.loads(answer)
        return None if found is None else _generation(found)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadablePicture("could not be searched: the search gave no usable answer.") from error


def _generation(found: dict[str, Any]) -> Generation:
    texts = {key: str(found.get(key, "")).strip() for key in ("program", "seed", "sampler", "model", "model_hash")}
    written = str(found.get("written", "")).strip()[:LONGEST]
    prompt, named, notes = plain(written)
    hashed = [
        Lora(str(name)[:NAME], _finite(weight), str(digest)[:NAME]) for name, weight, digest in found.get("loras", [])
    ]
    return Generation(
        prompt=prompt,
        written=written,
        negative=str(found.get("negative", "")).strip()[:LONGEST],
        **{key: text[:NAME] for key, text in texts.items()},
        loras=_joined([*hashed, *(Lora(name, _finite(weight)) for name, weight in named)]),
        notes=tuple(notes),
    )


def _finite(weight: object) -> float | None:
    return float(weight) if isinstance(weight, int | float) and isfinite(weight) else None


def _joined(loras: list[Lora]) -> tuple[Lora, ...]:
    """Each adapter once, with what is known of it from several places."""
    by_name: dict[str, Lora] = {}
    for lora in loras:
        known = by_name.get(lora.name, lora)
        weight = lora.weight if known.weight is None else known.weight
        by_name[lora.name] = Lora(lora.name, weight, known.hash or lora.hash)
    return tuple(by_name.values())[:MOST_LORAS]
