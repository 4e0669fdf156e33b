"""What is told of an index and decides no score: when and from what it was built, what was skipped, what belongs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import DamagedAsset
from ..examples.belonging import Comparison
from ..files.atomic import write_json
from ..files.manifest import Manifest
from .info import ABOUT

if TYPE_CHECKING:
    from .store import Index


@dataclass(frozen=True)
class About:
    """How an index came about."""

    read_from: str  # name of the training set's folder
    layout: str  # what in it said which images there are: “metadata.jsonl”
    notes: tuple[str, ...]  # on how it was read
    skipped: tuple[str, ...]  # pictures that could not be read, and why
    picture_size: int  # side of the pictures as the model saw them, in pixels
    adapter: str | None  # name and weight of the LoRA; None for a model without one
    belongs: tuple[Comparison, ...]  # what the LoRA and the model's errors say of the training set
    family: str | None = None  # of the model, as people call it; None where the index was built before that was kept
    built_at: str = ""  # UTC, as ISO 8601 writes it


def read_about(manifest: Manifest) -> About | None:
    """What is told of an index; None where it was built before that was kept. Raises DamagedAsset."""
    if ABOUT not in manifest.files:
        return None
    try:
        fields = json.loads(manifest.read_bytes(ABOUT))
        fields |= {name: tuple(fields[name]) for name in ("notes", "skipped")}
        return About(**{**fields, "belongs": tuple(Comparison(**one) for one in fields["belongs"])})
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedAsset(f"“{manifest.folder.name}/{ABOUT}” cannot be read. {manifest.remedy}") from error


def tell_about(index: Index, about: About) -> Index:
    """Keep it with the index, with the time, unless the same is kept already; the index as it is then."""
    kept = read_about(index.manifest)
    if kept and replace(kept, built_at="") == about:
        return index
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(index.folder / ABOUT, asdict(replace(about, built_at=now)))
    return index.with_files(ABOUT)
