"""Does a folder hold the pictures, and is a file the base model, that an adapter says it was trained on?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..files.manifest import old_hash_of, sha256_of
from .buckets import Shape, bucket_of, bucket_shapes
from .catalog import Catalog, TrainingImage
from .stated import Stated, StatedPictures

AGREES, DIFFERS, NOT_STATED = "agrees", "differs", "not stated"
SHOWN = 5  # tags and shapes that are named


@dataclass(frozen=True)
class Comparison:
    """One thing that the adapter states, held against the folder or the base model."""

    of: str  # pictures, repeats, tags, flips, changes, buckets, validation or base
    verdict: str  # agrees, differs or not stated
    told: str  # a clause for people; may be empty


def compared(
    metadata: Mapping[str, str], catalog: Catalog, base: Path | None = None, flip: bool = False
) -> list[Comparison]:
    """What an adapter's metadata states of its training, against a folder and the file or folder of its base model.

    `flip` says whether mirrored pictures are weighed as well.
    """
    stated, trained = Stated.of(metadata), catalog.of_split("train").images
    return [
        *_pictures(stated, trained),
        _tags(stated.tags, trained),
        _flips(stated.flips, flip),
        _changes(stated.changes),
        _buckets(stated.sets, trained),
        _validation(stated, len(trained), catalog.of_split("held_out").images),
        _base(stated.base, base),
    ]


def _pictures(stated: Stated, images: tuple[TrainingImage, ...]) -> Iterator[Comparison]:
    if stated.counts is None or stated.repeats is None:
        yield Comparison("pictures", NOT_STATED, f"{len(images):,} in the folder")
        yield Comparison("repeats", NOT_STATED, "")
        return
    there, counts, repeats = Counter(map(_folder_of, images)), stated.counts, stated.repeats
    same = sum(counts.values()) == len(images) and (counts == there or len(there) == 1)
    listed = ", ".join(f"{count:,} in “{name}”" for name, count in counts.items())
    yield Comparison("pictures", AGREES if same else DIFFERS, f"stated {listed}; {len(images):,} in the folder")
    wrong = [image.id for image in images if image.repeats != repeats.get(_folder_of(image), image.repeats)]
    verdict = DIFFERS if wrong or not repeats.keys() & there.keys() else AGREES
    told = ", ".join(f"{count} of “{name}”" for name, count in repeats.items())
    yield Comparison("repeats", verdict, f"stated {told}" + (f"; {len(wrong):,} have others" if wrong else ""))


def _tags(stated: Counter[str] | None, images: tuple[TrainingImage, ...]) -> Comparison:
    """Tags are what stands between commas in the captions, in lower case, as sd-scripts count them."""
    if stated is None:
        return Comparison("tags", NOT_STATED, "")
    there = Counter(tag.strip() for image in images for tag in image.caption.lower().split(",") if tag.strip())
    missing, more = stated - there, there - stated
    if not missing and not more:
        return Comparison("tags", AGREES, f"{len(stated):,} tags, each as often as stated")
    parts = [
        f"{told} {_listed(f'“{tag}”' for tag in sorted(some))}"
        for told, some in (("stated but rarer here:", missing), ("not stated so often:", more))
        if some
    ]
    return Comparison("tags", DIFFERS, "; ".join(parts))


def _flips(flipped: bool | None, flip: bool) -> Comparison:
    if flipped is None:
        return Comparison("flips", NOT_STATED, "")
    told = "it was trained on mirrored pictures too" if flipped else "no picture was mirrored"
    if flipped == flip:
        return Comparison("flips", AGREES, told)
    return Comparison("flips", DIFFERS, f"{told}, which are {'' if flip else 'not '}measured")


def _changes(changes: tuple[str, ...] | None) -> Comparison:
    """What a trainer did to pictures and captions that no loss here is taken with."""
    if changes is None:
        return Comparison("changes", NOT_STATED, "")
    if changes:
        return Comparison("changes", DIFFERS, f"{', '.join(changes)}: not done here")
    return Comparison("changes", AGREES, "colours, crops and captions as they are")


def _buckets(stated: tuple[StatedPictures, ...], images: tuple[TrainingImage, ...]) -> Comparison:
    """Counts by shape, in which each picture is as often as an epoch shows it."""
    if not any(one.buckets for one in stated):
        return Comparison("buckets", NOT_STATED, "")
    if any(one.regularising for one in stated):
        return Comparison("buckets", NOT_STATED, "pictures that only regularise are counted among them")
    wanted, there = Counter[Shape](), Counter[Shape]()
    for one in stated:
        among = [image for image in images if len(stated) == 1 or _folder_of(image) in one.names]
        shapes = bucket_shapes(one.resolution, *one.sides) if one.resolution else list(one.buckets)
        wanted.update(one.buckets)
        for image in among if one.buckets else ():
            there[bucket_of((image.width, image.height), shapes)] += image.repeats
    counts = f"stated {wanted.total():,} in {len(wanted)}; {there.total():,} from the folder"
    if wanted == there or (wanted.total() == there.total() and not all(one.upscaled for one in stated)):
        return Comparison("buckets", AGREES, counts)
    other = sorted(shape for shape in wanted | there if wanted[shape] != there[shape])
    listed = _listed(f"{w} × {h} ({wanted[w, h]:,} stated, {there[w, h]:,} here)" for w, h in other)
    return Comparison("buckets", DIFFERS, f"{counts}: {listed}" if listed else counts)


def _validation(stated: Stated, trained: int, held_out: tuple[TrainingImage, ...]) -> Comparison:
    if stated.held_out is None:
        return Comparison("validation", NOT_STATED, "")
    if not stated.held_out:
        return Comparison("validation", AGREES, "no picture was held out of training")
    count = stated.held_out_count or round((trained + len(held_out)) * stated.held_out)
    same = count in (len(held_out), sum(image.repeats for image in held_out))
    told = f"stated {count:,} held out of training; {len(held_out):,} of the folder are held_out"
    return Comparison("validation", AGREES if same else DIFFERS, told)


def _base(stated: Mapping[str, str], base: Path | None) -> Comparison:
    """By the hashes that sd-scripts take of a single file: see `old_hash_of`, and SHA-256."""
    named = f" of “{stated['name']}”" if "name" in stated else ""
    hashes = [(name, stated[name]) for name in ("new_hash", "hash") if name in stated]
    if not hashes:
        return Comparison("base", NOT_STATED, f"no hash{named}" if named else "")
    which, wanted = hashes[0]
    told = f"stated {wanted[:12]}{named}"
    if base is None or not base.is_file():
        why = "name its file" if base is None else f"“{base.name}” is no file, and has no such hash"
        return Comparison("base", NOT_STATED, f"{told}; {why}")
    found = sha256_of(base) if which == "new_hash" else old_hash_of(base)
    return Comparison("base", AGREES if found == wanted else DIFFERS, f"{told}; “{base.name}” has {found[:12]}")


def _listed(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:SHOWN]) + (" …" if len(first) > SHOWN else "")


def _folder_of(image: TrainingImage) -> str:
    parent = PurePosixPath(image.id).parts[:-1]
    return parent[0] if parent else ""
