"""Does a folder hold the pictures that an adapter says it was trained on?

kohya's sd-scripts write into a LoRA's metadata the folders that it was trained on, how many pictures each held and how
often an epoch showed them, how often each tag stands in the captions, and whether pictures were flipped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from .catalog import Catalog, TrainingImage

AGREES, DIFFERS, NOT_STATED = "agrees", "differs", "not stated"
SHOWN = 5  # tags that are named


@dataclass(frozen=True)
class Comparison:
    """One thing that the adapter states, held against the folder."""

    of: str
    verdict: str  # agrees, differs or not stated
    told: str


def compared(metadata: Mapping[str, str], catalog: Catalog) -> list[Comparison]:
    """What an adapter's metadata states of its pictures, their repeats, their tags and flips, against a folder."""
    trained = catalog.of_split("train").images
    folders, tags = _object(metadata, "ss_dataset_dirs"), _object(metadata, "ss_tag_frequency")
    return [*_pictures(folders, trained), _tags(tags, trained), _flips(metadata)]


def _pictures(stated: Mapping[str, Any] | None, images: tuple[TrainingImage, ...]) -> Iterator[Comparison]:
    if stated is None:
        yield Comparison("pictures", NOT_STATED, f"{len(images):,} in the folder")
        yield Comparison("repeats", NOT_STATED, "")
        return
    there = Counter(map(_folder_of, images))
    counts = {name: int(_field(told, "img_count")) for name, told in stated.items()}
    same = sum(counts.values()) == len(images) and (counts == there or len(there) == 1)
    listed = ", ".join(f"{count:,} in “{name}”" for name, count in counts.items())
    yield Comparison("pictures", AGREES if same else DIFFERS, f"stated {listed}; {len(images):,} in the folder")
    repeats = {name: int(_field(told, "n_repeats")) for name, told in stated.items()}
    wrong = [image.id for image in images if image.repeats != repeats.get(_folder_of(image), image.repeats)]
    verdict = DIFFERS if wrong or not repeats.keys() & there.keys() else AGREES
    told = ", ".join(f"{count} of “{name}”" for name, count in repeats.items())
    yield Comparison("repeats", verdict, f"stated {told}" + (f"; {len(wrong):,} have others" if wrong else ""))


def _tags(stated: Mapping[str, Any] | None, images: tuple[TrainingImage, ...]) -> Comparison:
    """Tags are what stands between commas in the captions, in lower case, as sd-scripts count them."""
    if stated is None:
        return Comparison("tags", NOT_STATED, "")
    wanted: Counter[str] = Counter()
    for counts in stated.values():
        for tag in counts if isinstance(counts, dict) else ():
            wanted[tag.strip().lower()] += _field(counts, tag)
    there = Counter(tag.strip() for image in images for tag in image.caption.lower().split(",") if tag.strip())
    missing, more = wanted - there, there - wanted
    if not missing and not more:
        return Comparison("tags", AGREES, f"{len(wanted):,} tags, each as often as stated")
    parts = [
        f"{told} {', '.join(f'“{tag}”' for tag in sorted(some)[:SHOWN])}" + (" …" if len(some) > SHOWN else "")
        for told, some in (("stated but rarer here:", missing), ("not stated so often:", more))
        if some
    ]
    return Comparison("tags", DIFFERS, "; ".join(parts))


def _flips(metadata: Mapping[str, str]) -> Comparison:
    flipped = metadata.get("ss_flip_aug")
    if flipped is None:
        return Comparison("flips", NOT_STATED, "")
    if flipped == "True":
        return Comparison("flips", DIFFERS, "it was trained on mirrored pictures too, which are not measured")
    return Comparison("flips", AGREES, "no picture was mirrored")


def _folder_of(image: TrainingImage) -> str:
    parent = PurePosixPath(image.id).parts[:-1]
    return parent[0] if parent else ""


def _object(metadata: Mapping[str, str], key: str) -> dict[str, Any] | None:
    """An object that is written as JSON; None where there is none, as metadata is free text."""
    try:
        value = json.loads(metadata[key])
    except (KeyError, ValueError):
        return None
    return value if isinstance(value, dict) and value else None


def _field(told: object, name: str) -> int:
    value = told.get(name) if isinstance(told, dict) else None
    return value if isinstance(value, int) else 0
