"""What a picture's file says of how it was generated, beside the model that an answer is about."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..errors import UnreadablePicture
from ..examples.provenance.generation import Generation, read_generation
from .record import GenerationRecord, LoraRecord, Record

SHORTEST = 10  # hexadecimal digits of a SHA-256 that programs write for a checkpoint; 12 for an adapter
UNREAD = "The prompt that the file may carry was not read, as the file’s metadata {why}"
_SHA256 = re.compile(rf"[0-9a-f]{{{SHORTEST},64}}")
_HEADER = 8  # bytes of the length of a safetensors header

Agreement = Literal["agrees", "differs", "not stated"]


def searched(original: bytes) -> tuple[Generation | None, str]:
    """What the bytes of a picture say of how it was generated, and a sentence where they could not be searched."""
    try:
        return read_generation(original), ""
    except UnreadablePicture as refusal:
        return None, UNREAD.format(why=str(refusal))


def compared(stated: Generation, checkpoint: str) -> GenerationRecord:
    """What a file says as it is kept, compared with the model's `checkpoint`."""
    facts = {key: value for key, value in vars(stated).items() if key != "loras"}
    loras = tuple(LoraRecord(**vars(lora)) for lora in stated.loras)
    return GenerationRecord(**facts, loras=loras, same_model=agreement(stated.model_hash, Path(checkpoint)))


def with_origin(record: Record, origin: GenerationRecord | None) -> Record:
    return record.model_copy(update={"query": record.query.model_copy(update={"generation": origin})})


def agreement(stated: str, file: Path) -> Agreement:
    """Whether a hash that programs write for a model file is that of `file`; a folder has none to compare.

    Programs write the beginning of the SHA-256 of the file, or of a safetensors file without its header.
    """
    digest = stated.lower().removeprefix("0x")
    if not _SHA256.fullmatch(digest) or not file.is_file():
        return "not stated"
    state = file.stat()
    hashes = _hashes(file, state.st_size, state.st_mtime_ns)
    return "agrees" if any(known.startswith(digest) for known in hashes) else "differs"


@lru_cache(maxsize=16)
def _hashes(file: Path, size: int, changed: int) -> tuple[str, ...]:
    found = []
    for skipped in (False, True):
        with file.open("rb") as content:
            if skipped:
                content.seek(_HEADER + int.from_bytes(content.read(_HEADER), "little"))
            found.append(hashlib.file_digest(content, "sha256").hexdigest())
    return tuple(found)


def facts_of(stated: Generation | GenerationRecord) -> str:
    """“written by AUTOMATIC1111 · seed 42 · Euler a · model fruits (3f2a9c1b22) · LoRA fruit (aabb)”."""
    model = _named(stated.model, stated.model_hash)
    parts = [
        f"written by {stated.program}" if stated.program else "",
        f"seed {stated.seed}" if stated.seed else "",
        stated.sampler,
        f"model {model}" if model else "",
        *(f"LoRA {_named(lora.name, lora.hash)}" for lora in stated.loras),
    ]
    return " · ".join(filter(None, parts))


def origin_notes(record: Record) -> list[str]:
    """What the file says of its prompt and its model, in sentences; none where it says nothing."""
    stated = record.query.generation
    if stated is None:
        return []
    facts = facts_of(stated)
    used = stated.prompt and record.query.prompt == stated.prompt
    if used:
        first = "The prompt is the one in the picture’s file."
    elif stated.prompt:
        first = f"The picture’s file carries another prompt: “{stated.prompt}”."
    else:
        first = "The picture’s file says how it was generated, without a prompt."
    said = f"{first} It says: {facts}." if facts else first
    return [said, *filter(None, [_beside_the_model(stated)]), *_sentences(stated.notes if used else ())]


def _beside_the_model(stated: GenerationRecord) -> str:
    named = f"The file says that it was made with model hash {stated.model_hash}"
    if stated.same_model == "agrees":
        return f"{named}, which is this index’s model."
    if stated.same_model == "differs":
        return f"{named}, which is not this index’s model: the answer is about another model than it came from."
    if stated.model_hash:
        return f"{named}; this index’s model has no such hash to compare it with."
    return ""


def _sentences(notes: tuple[str, ...]) -> list[str]:
    return [f"{note[:1].upper()}{note[1:]}." for note in notes]


def _named(name: str, digest: str) -> str:
    return f"{name} ({digest})" if name and digest else name or digest
