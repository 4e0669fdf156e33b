"""What a picture's file says of how it was generated, beside the model that an answer is about."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from ..errors import ForwardInfError, UnreadablePicture
from ..examples.provenance.generation import Generation, Lora, read_generation
from ..files.manifest import old_hash_of
from ..types import Adapter, ModelSpec
from .record import Agreement, GenerationRecord, LoraRecord, Record

# Hexadecimal digits that programs write: 10 of a checkpoint's SHA-256, 12 of an adapter's, 8 of the hash of before.
SHORTEST = 8
UNREAD = "The prompt that the file may carry was not read, as the file’s metadata {why}"
_SHA256 = re.compile(rf"[0-9a-f]{{{SHORTEST},64}}")
_HEADER, _LONGEST_HEADER = 8, 100_000_000  # bytes of the length of a safetensors header, and of the header at most
_SMALL = 2**20  # bytes; smaller files have the same hash of before, all of them
_RECORDED = ("sshs_model_hash", "sshs_legacy_hash")  # in the metadata of adapters by kohya's sd-scripts


def searched(original: bytes) -> tuple[Generation | None, str]:
    """What the bytes of a picture say of how it was generated, and a sentence where they could not be searched."""
    try:
        return read_generation(original), ""
    except UnreadablePicture as refusal:
        return None, UNREAD.format(why=str(refusal))


def compared(stated: Generation, spec: ModelSpec) -> GenerationRecord:
    """What a file says as it is kept, compared with the model and its adapter."""
    facts = {key: value for key, value in vars(stated).items() if key != "loras"}
    loras = tuple(LoraRecord(**vars(lora), same=_same_adapter(lora, spec.adapter)) for lora in stated.loras)
    return GenerationRecord(**facts, loras=loras, same_model=agreement(stated.model_hash, Path(spec.checkpoint)))


def _same_adapter(stated: Lora, adapter: Adapter | None) -> Agreement:
    """A model without an adapter is not the one that a picture with an adapter came from."""
    from ..models.adapter_file import file_of

    if adapter is None:
        return "differs"
    with suppress(ForwardInfError):
        return agreement(stated.hash, file_of(Path(adapter.file)))
    return "not stated"


def with_origin(record: Record, origin: GenerationRecord | None) -> Record:
    return record.model_copy(update={"query": record.query.model_copy(update={"generation": origin})})


def agreement(stated: str, file: Path) -> Agreement:
    """Whether a hash that programs write for a model file is that of `file`; a folder has none to compare.

    Programs write the beginning of the SHA-256 of the file (AUTOMATIC1111, of checkpoints), of a safetensors file
    without its header (AUTOMATIC1111 and kohya's sd-scripts, of adapters, which may record it in their metadata), or of
    64 KiB from its second MiB on (AUTOMATIC1111 and its Additional Networks, before 2023: 8 digits).
    """
    digest = stated.lower().removeprefix("0x")
    if not _SHA256.fullmatch(digest) or not file.is_file():
        return "not stated"
    state = file.stat()
    hashes = _hashes(file, state.st_size, state.st_mtime_ns)
    return "agrees" if any(known.startswith(digest) for known in hashes) else "differs"


@lru_cache(maxsize=16)
def _hashes(file: Path, size: int, changed: int) -> tuple[str, ...]:
    with file.open("rb") as content:
        found = [hashlib.file_digest(content, "sha256").hexdigest()]
        content.seek(0)
        if (metadata := _metadata_of(content)) is not None:
            found.append(hashlib.file_digest(content, "sha256").hexdigest())  # from the header's end on
            recorded = (str(metadata.get(name, "")) for name in _RECORDED)
            found += [value for value in recorded if _SHA256.fullmatch(value)]
    return (*found, *([old_hash_of(file)] if size > _SMALL else ()))


def _metadata_of(content: BinaryIO) -> dict[str, str] | None:
    """What a safetensors header, which is read to its end, has as metadata; None where there is no such header."""
    length = int.from_bytes(content.read(_HEADER), "little")
    with suppress(ValueError, AttributeError, RecursionError):
        if length <= _LONGEST_HEADER:
            return dict(json.loads(content.read(length)).get("__metadata__", {}))
    return None


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
    beside = filter(None, [_beside_the_model(stated), *map(_beside_the_adapter, stated.loras)])
    return [said, *beside, *_sentences(stated.notes if used else ())]


def _beside_the_model(stated: GenerationRecord) -> str:
    named = f"The file says that it was made with model hash {stated.model_hash}"
    if stated.same_model == "agrees":
        return f"{named}, which is this index’s model."
    if stated.same_model == "differs":
        return f"{named}, which is not this index’s model: the answer is about another model than it came from."
    if stated.model_hash:
        return f"{named}; this index’s model has no such hash to compare it with."
    return ""


def _beside_the_adapter(lora: LoraRecord) -> str:
    named = f"The file says that it was made with LoRA {_named(lora.name, lora.hash)}"
    if lora.same == "agrees":
        return f"{named}, which is this index’s."
    if lora.same == "differs":
        return f"{named}, which is not this index’s: the answer is about another model than it came from."
    return f"{named}; {'that hash' if lora.hash else 'without a hash it'} cannot be compared with this index’s."


def _sentences(notes: tuple[str, ...]) -> list[str]:
    return [f"{note[:1].upper()}{note[1:]}." for note in notes]


def _named(name: str, digest: str) -> str:
    return f"{name} ({digest})" if name and digest else name or digest
