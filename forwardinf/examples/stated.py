"""What kohya's sd-scripts write into a LoRA's metadata of the pictures that it was trained on.

Without a configuration file, one set of pictures stands in keys of its own (`ss_dataset_dirs`, `ss_bucket_info`, …);
with one, there may be several, in the list `ss_datasets`. Metadata is free text, so what is no such value counts as not
stated.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .buckets import LARGEST, SMALLEST, Shape

# What a trainer may do to pictures and captions, anew at each step, besides mirroring.
_CHANGES = {"color_aug": "colours changed", "random_crop": "crops at random", "shuffle_caption": "tags shuffled"}


@dataclass(frozen=True)
class StatedPictures:
    """One set of pictures that was trained on in one resolution."""

    names: frozenset[str]  # of its folders; empty where none is stated
    resolution: Shape | None
    sides: tuple[int, int]  # the smallest and the largest of a bucket
    buckets: Mapping[Shape, int]  # pictures by shape, each as often as an epoch shows it; empty where not stated
    regularising: bool  # whether pictures that only regularise are counted among them
    upscaled: bool = True  # whether small pictures were scaled up


@dataclass(frozen=True)
class Stated:
    """What is stated; None where nothing is."""

    counts: Mapping[str, int] | None  # pictures by folder
    repeats: Mapping[str, int] | None  # how often an epoch shows each, by folder
    tags: Counter[str] | None
    flips: bool | None  # whether pictures, or some of them, were mirrored half of the time
    changes: tuple[str, ...] | None  # what else was done to pictures and captions
    sets: tuple[StatedPictures, ...]
    held_out: float | None  # share of pictures that losses were only watched on
    held_out_count: int | None
    base: Mapping[str, str] = field(default_factory=dict)  # of its file: `hash`, `new_hash`, `name`

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Stated:
        datasets = [one for one in _parsed(metadata, "ss_datasets", list) or () if isinstance(one, dict)]
        subsets = [one for dataset in datasets for one in dataset.get("subsets") or () if isinstance(one, dict)]
        folders = _parsed(metadata, "ss_dataset_dirs", dict) or _folders(subsets) or None
        trained = [{"flip_aug": _true(metadata.get("ss_flip_aug")), **_changes(metadata)}, *subsets]
        return cls(
            counts=_numbers(folders, "img_count"),
            repeats=_numbers(folders, "n_repeats"),
            tags=_tags(_parsed(metadata, "ss_tag_frequency", dict)),
            flips=_any(trained, "flip_aug"),
            changes=_told(trained),
            sets=tuple(_sets(metadata, datasets)),
            held_out=_share(metadata.get("ss_validation_split")),
            held_out_count=_integer(metadata.get("ss_num_validation_images")),
            base=_base(metadata),
        )


def _sets(metadata: Mapping[str, str], datasets: list[dict[str, Any]]) -> Iterator[StatedPictures]:
    upscaled = not _true(metadata.get("ss_bucket_no_upscale"))
    if not datasets:
        keys = ("bucket_info", "resolution", "min_bucket_reso", "max_bucket_reso", "num_reg_images")
        alone: dict[str, Any] = {key: metadata.get(f"ss_{key}") for key in keys}
        datasets = [alone | {"bucket_info": _parsed(metadata, "ss_bucket_info", dict)}]
    for told in datasets:
        subsets = [one for one in told.get("subsets") or () if isinstance(one, dict)]
        sides = [_integer(told.get(f"{which}_bucket_reso")) for which in ("min", "max")]
        yield StatedPictures(
            names=frozenset(_folders(subsets)),
            resolution=_shape(told.get("resolution")),
            sides=(sides[0] or SMALLEST, sides[1] or LARGEST),
            buckets=_buckets(told.get("bucket_info")),
            regularising=bool(_integer(told.get("num_reg_images"))),
            upscaled=upscaled,
        )


def _buckets(told: object) -> dict[Shape, int]:
    buckets = told.get("buckets") if isinstance(told, dict) else None
    found: Counter[Shape] = Counter()
    for one in buckets.values() if isinstance(buckets, dict) else ():
        if shape := _shape(one.get("resolution") if isinstance(one, dict) else None):
            found[shape] += _number(one, "count")
    return dict(found)


def _folders(subsets: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """As `ss_dataset_dirs` has them; pictures that only regularise are in none."""
    named = [(one.get("image_dir") or one.get("metadata_file"), one) for one in subsets if not one.get("is_reg")]
    return {str(name): one | {"n_repeats": one.get("num_repeats")} for name, one in named if name}


def _numbers(folders: dict[str, Any] | None, key: str) -> dict[str, int] | None:
    return None if folders is None else {name: _number(told, key) for name, told in folders.items()}


def _tags(told: dict[str, Any] | None) -> Counter[str] | None:
    if told is None:
        return None
    found: Counter[str] = Counter()
    for counts in told.values():
        for tag in counts if isinstance(counts, dict) else ():
            found[tag.strip().lower()] += _number(counts, tag)
    return found


def _changes(metadata: Mapping[str, str]) -> dict[str, bool | None]:
    return {key: _true(metadata.get(f"ss_{key}")) for key in _CHANGES}


def _told(trained: list[dict[str, Any]]) -> tuple[str, ...] | None:
    found = {label: _any(trained, key) for key, label in _CHANGES.items()}
    return None if set(found.values()) == {None} else tuple(label for label, was in found.items() if was)


def _any(told: list[dict[str, Any]], key: str) -> bool | None:
    values = [one[key] for one in told if isinstance(one.get(key), bool)]
    return any(values) if values else None


def _base(metadata: Mapping[str, str]) -> dict[str, str]:
    """Of a base that was a folder, or not there, sd-scripts write no hash but that."""
    keys = {"hash": "ss_sd_model_hash", "new_hash": "ss_new_sd_model_hash"}
    found = {name: metadata.get(key, "").lower() for name, key in keys.items()}
    hashes = {name: told for name, told in found.items() if re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", told)}
    name = metadata.get("ss_sd_model_name")
    return hashes | ({"name": name} if name else {})


def _parsed(metadata: Mapping[str, str], key: str, kind: type) -> Any:  # noqa: ANN401
    """A value that is written as JSON; None where there is none of that kind, or an empty one."""
    try:
        value = json.loads(metadata[key])
    except (KeyError, ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) and value else None


def _true(written: str | None) -> bool | None:
    return {"true": True, "false": False}.get((written or "").lower())


def _share(written: str | None) -> float | None:
    """Of a split: none is 0 of the pictures."""
    if written == "None":
        return 0.0
    try:
        share = float(written or "nan")
    except ValueError:
        return None
    return share if 0 <= share < 1 else None


def _shape(told: object) -> Shape | None:
    """Width and height, as a list, or as “(512, 768)” or “512,768”."""
    numbers = [int(number) for number in re.findall(r"\d{1,6}", str(told))]
    return (numbers[0], numbers[1]) if len(numbers) == 2 and all(numbers) else None


def _integer(told: object) -> int | None:
    return int(text) if told is not None and re.fullmatch(r"\d{1,9}", text := str(told)) else None


def _number(told: object, name: str) -> int:
    value = told.get(name) if isinstance(told, dict) else None
    return value if isinstance(value, int) else 0
