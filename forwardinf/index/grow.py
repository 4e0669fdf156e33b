"""More images for an index, without measuring those again that it has.

Shards, thumbnails and the curvature stay as they are, to the byte; shards are added behind them. The Fisher is not
estimated anew, as sketches of the images that are there were made by it: an index may grow to double the images that it
was sampled from. The null is not kept, as each change in it is standardised over all images.

The larger index is made in a folder beside, `NAME.adding`, where a build that was cut off goes on, and takes the place
of the other when it is whole.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..errors import IndexMismatch, InvalidRequest
from ..examples.catalog import FIELDS, LABELS, Catalog, TrainingImage
from ..files.atomic import writing
from .build import Build, OnProgress, embeddings_name
from .curvature_file import FISHER, KRONECKER
from .folder import IndexFolder, writing_alone
from .info import IndexInfo, sizes_of
from .plan import in_shards
from .shards import shard_name
from .store import Index
from .thumbnails import name_of, pack_name, write_pack

if TYPE_CHECKING:
    from ..embedders.protocol import Embedder
    from ..models.protocol import PictureModel

PER_FISHER = 2  # images for each that the Fisher was sampled from
WHERE = frozenset({"file_name", "collection"})  # fields that follow from where a folder lies


@dataclass(frozen=True)
class Grown:
    """An index before and after, and the catalog of all its images; pictures are there as far as a folder has them."""

    before: Index
    index: Index
    catalog: Catalog

    def put_in_place(self) -> Index:
        """The larger index, in the folder of the other."""
        folder = self.before.folder
        aside = folder.with_name(f"{folder.name}.before")
        folder.rename(aside)
        self.index.folder.rename(folder)
        shutil.rmtree(aside)
        return Index.recorded_in(folder)


def open_to_grow(folder: Path) -> Index:
    """The index of a folder; one that was just to take its place when the process was killed does so now."""
    aside = folder.with_name(f"{folder.name}.before")
    if aside.is_dir() and not folder.exists():
        aside.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)
    return Index.open(folder)


def grow(model: PictureModel, index: Index, source: Catalog, embedder: Embedder, on_progress: OnProgress) -> Grown:
    """Add the images of `source` that an index does not have; those that it has may be among them.

    Raises IndexMismatch where the index is of another model, version or embedder, or would outgrow its Fisher, and
    InvalidRequest where there is nothing to add or an image is another one than the index has by its id.
    """
    index.require(model)
    _require_the_same(index, embedder)
    more, shards = in_shards(_added(index, source), model, index.info.shard_size)
    images = tuple(replace(image, file_name=name_of(n)) for n, image in enumerate((*index.catalog.images, *more)))
    folder = index.folder.with_name(f"{index.folder.name}.adding")
    sizes = shards or tuple(sizes_of(len(more), index.info.shard_size))
    info = _info(index, source, Catalog(folder, images), sizes)
    _require_enough_fisher(index, images)
    there = {image.id: image.file_name for image in source.images}
    shown = tuple(replace(image, file_name=there.get(image.id, image.file_name)) for image in images)
    whole = Catalog(source.folder, shown, source.read, source.skipped)
    with writing_alone(index.folder):
        writer = _begun(folder, info, Catalog(folder, images))
        _take_over(index, writer)
        build = Build(model, embedder, whole, writer, info, on_progress)
        return Grown(index, build.finished(KRONECKER in index.manifest.files, index.unadapted_losses), whole)


def _begun(folder: Path, info: IndexInfo, catalog: Catalog) -> IndexFolder:
    """The folder beside, where an addition of the same images goes on; what is there of another one is removed."""
    try:
        return IndexFolder.begin(folder, info, catalog)
    except IndexMismatch:
        shutil.rmtree(folder)
        return IndexFolder.begin(folder, info, catalog)


def _added(index: Index, source: Catalog) -> tuple[TrainingImage, ...]:
    known = index.catalog.by_id
    for image in source.images:
        was = known.get(image.id, image)
        for name in FIELDS:
            if name not in WHERE and getattr(was, name) != getattr(image, name):
                raise InvalidRequest(
                    f"“{image.id}” is in “{index.folder.name}” already, with another {LABELS.get(name, name)}. Images "
                    "are known by their path below the folder: put this one in a subfolder, or build the index anew."
                )
    more = tuple(image for image in source.images if image.id not in known)
    if not more:
        raise InvalidRequest(f"“{index.folder.name}” has all {len(source.images):,} images of “{source.folder.name}”.")
    return more


def _require_the_same(index: Index, embedder: Embedder) -> None:
    name, info = index.folder.name, index.info
    if info.version != __version__:
        raise IndexMismatch(
            f"“{name}” was built by version {info.version}, and this is {__version__}, which may measure otherwise. "
            "Build it anew, or add with that version."
        )
    if embedder.fingerprint != info.embedder_fingerprint:
        raise IndexMismatch(f"“{name}” was embedded with another {info.embedder}. Use that one, or build it anew.")


def _require_enough_fisher(index: Index, images: tuple[TrainingImage, ...]) -> None:
    sampled = index.catalog.images[: index.info.fisher_among or None]
    before, now = (sum(image.split == "train" for image in some) for some in (sampled, images))
    if now > PER_FISHER * before:
        raise IndexMismatch(
            f"“{index.folder.name}” would have {now:,} training images, but its curvature was sampled from {before:,}: "
            f"at most {PER_FISHER} times as many may be weighed by it. Build the index anew."
        )


def _info(index: Index, source: Catalog, grown: Catalog, shards: tuple[int, ...]) -> IndexInfo:
    info = index.info
    return replace(
        info,
        sources=grown.sources,
        examples=len(grown.images),
        shards=(*(rows.stop - rows.start for rows in info.rows), *shards),
        fisher_among=info.fisher_among or info.examples,
        skipped=info.skipped + source.skipped,
    )


def _take_over(index: Index, writer: IndexFolder) -> None:
    """The files of an index that stay as they are, and the embeddings of its images."""
    import numpy as np

    numbers = range(index.info.shard_count)
    curvature = {FISHER, KRONECKER} & index.manifest.files.keys()
    for name in (*curvature, *map(shard_name, numbers), *map(pack_name, numbers)):
        if name in index.manifest.files and not writer.is_sound(name):
            _link(index.manifest.verified(name), writer.folder / name)
            writer.add(name)
    flat = index.neighbours.flat
    for number, rows in enumerate(index.info.rows):
        if not writer.is_sound(pack_name(number)):  # an index of before has a file for each thumbnail
            names = map(name_of, range(rows.start, rows.stop))
            write_pack(writer.folder, number, [index.thumbnail_files.read(name) for name in names])
            writer.add(pack_name(number))
        if not writer.is_sound(embeddings_name(number)):
            with writing(writer.folder / embeddings_name(number)) as aside:
                np.save(aside, flat.reconstruct_n(rows.start, rows.stop - rows.start))
            writer.add(embeddings_name(number))


def _link(file: Path, name: Path) -> None:
    """The same file under another name, as no file of an index is ever written to; a copy where links are not known."""
    with writing(name) as aside:
        try:
            os.link(file, aside)
        except OSError:
            shutil.copyfile(file, aside)
