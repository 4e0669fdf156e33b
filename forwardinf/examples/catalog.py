"""One row per training image: what it shows, who made it, on what terms, and where it came from."""

from __future__ import annotations

import hashlib
import io
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DamagedAsset, MissingAsset
from ..files.atomic import write_bytes
from ..files.identity import digest_of
from ..files.manifest import RESTORE, Manifest
from .decoding import decode_training_picture

if TYPE_CHECKING:
    from PIL.Image import Image

FILE_NAME = "catalog.parquet"
LABELS = {"sha256": "picture", "phash": "perceptual hash", "repeats": "number of repeats"}  # of fields, in messages


@dataclass(frozen=True)
class TrainingImage:
    """A catalog row; `file_name` is relative to the catalog's folder, as in an ImageFolder's metadata."""

    id: str
    file_name: str
    collection: str
    creator: str
    licence: str  # SPDX identifier
    licence_url: str
    source_package: str
    source_version: str
    source_file: str
    source_url: str
    caption: str
    subject: str
    group: str
    subgroup: str
    tags: str
    width: int  # pixels
    height: int
    sha256: str  # of the picture's file
    phash: str  # 64-bit perceptual hash, hexadecimal
    split: str  # train | held_out | reserve
    repeats: int  # how often an epoch of training showed it


FIELDS = tuple(one.name for one in fields(TrainingImage))


@dataclass(frozen=True)
class Catalog:
    """The rows of a training set, in id order, and the folder that their pictures lie in."""

    folder: Path
    images: tuple[TrainingImage, ...]
    read: Callable[[str], bytes] | None = field(default=None, compare=False)  # a picture's file; None: from the folder
    skipped: int = field(default=0, compare=False)  # pictures of the folder that could not be read

    @classmethod
    def load(cls, folder: Path) -> Catalog:
        """The catalog of a folder, as its manifest records it; raises MissingAsset or DamagedAsset.

        The pictures are verified when they are read, by what the catalog says of them.
        """
        if not (folder / FILE_NAME).is_file():
            raise MissingAsset(f"“{folder.name}/{FILE_NAME}” is missing. {RESTORE}")
        return cls.parse(folder, Manifest.read(folder).read_bytes(FILE_NAME))

    @classmethod
    def parse(cls, folder: Path, content: bytes) -> Catalog:
        """The catalog that a Parquet file holds; raises DamagedAsset."""
        try:
            table = pq.read_table(pa.BufferReader(content), columns=list(FIELDS))
            columns = [_values(table.column(name)) for name in FIELDS]
            return cls(folder, tuple(TrainingImage(*row) for row in zip(*columns, strict=True)))
        except (pa.ArrowException, OSError, TypeError) as error:
            raise DamagedAsset(f"“{folder.name}/{FILE_NAME}” cannot be read as a catalog: {error}") from error

    def to_bytes(self) -> bytes:
        """The rows as a Parquet file; the same rows give the same bytes."""
        content = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([asdict(image) for image in self.images]), content, compression="zstd")
        return content.getvalue()

    def save(self) -> Path:
        """Write the rows and a manifest that records them."""
        path = self.folder / FILE_NAME
        write_bytes(path, self.to_bytes())
        Manifest(self.folder, {}).with_files(FILE_NAME).write()
        return path

    @cached_property
    def sources(self) -> str:
        """SHA-256 of what the images are, in their order, wherever their files lie."""
        return digest_of([[getattr(image, name) for name in FIELDS if name != "file_name"] for image in self.images])

    def difference(self, other: Catalog) -> str:
        """The first thing in which another catalog's images are not these; empty where they are the same."""
        for mine, theirs in zip(self.images, other.images, strict=False):
            if mine.id != theirs.id:
                return f"“{theirs.id}” stands where “{mine.id}” was"
            for name in FIELDS:
                if name != "file_name" and getattr(mine, name) != getattr(theirs, name):
                    return f"“{mine.id}” has another {LABELS.get(name, name)}"
        counts = len(self.images), len(other.images)
        return "" if counts[0] == counts[1] else f"there are {counts[1]:,} images, where there were {counts[0]:,}"

    def read_bytes(self, image: TrainingImage) -> bytes:
        """The file of a picture, as it was catalogued; raises MissingAsset or DamagedAsset naming the image."""
        where = f"The picture of “{image.id}” ({self.folder.name}/{image.file_name})"
        remedy = "Restore it, or gather the training images anew."
        try:
            content = self.read(image.file_name) if self.read else self.path_of(image).read_bytes()
        except OSError as error:
            raise MissingAsset(f"{where} cannot be read: {error.strerror}. {remedy}") from error
        if hashlib.sha256(content).hexdigest() != image.sha256:
            raise DamagedAsset(f"{where} is not the one that was catalogued. {remedy}")
        return content

    def picture(self, image: TrainingImage) -> Image:
        """A picture in RGB at the size it has; raises MissingAsset, DamagedAsset, or UnreadablePicture naming it."""
        return decode_training_picture(self.read_bytes(image), image.file_name)

    def verify(self) -> None:
        """Read every picture's file; raises MissingAsset or DamagedAsset naming the first that is not as catalogued."""
        for image in self.images:
            self.read_bytes(image)

    def of_split(self, split: str) -> Catalog:
        return replace(self, images=tuple(image for image in self.images if image.split == split))

    def path_of(self, image: TrainingImage) -> Path:
        return self.folder / image.file_name

    @cached_property
    def by_id(self) -> dict[str, TrainingImage]:
        return {image.id: image for image in self.images}

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The place of each image in their order, by id."""
        return {image.id: number for number, image in enumerate(self.images)}

    @cached_property
    def with_word(self) -> Mapping[str, Sequence[int]]:
        """The numbers of the images, in their order, whose captions have a lower-case word."""
        found: dict[str, array[int]] = {}
        for number, image in enumerate(self.images):
            for word in set(words_of(image.caption)):
                found.setdefault(word, array("I")).append(number)
        return found

    @cached_property
    def by_subject(self) -> tuple[tuple[TrainingImage, str], ...]:
        """The images with each subject's styles side by side, each with the words of its caption and its creator.

        The words are in lower case, each behind a space.
        """
        ordered = sorted(self.images, key=lambda image: image.id.partition("-")[::-1])
        return tuple((one, "".join(f" {word}" for word in words_of(f"{one.caption} {one.creator}"))) for one in ordered)

    @cached_property
    def words(self) -> frozenset[str]:
        """Every lower-case word of a training caption: what a prompt can hope to be understood for."""
        return frozenset(word for image in self.images if image.split == "train" for word in words_of(image.caption))


def _values(column: pa.ChunkedArray) -> Iterable[Any]:
    """A column's values; equal texts are one object, as most of a large training set's are repeated."""
    if not pa.types.is_string(column.type):
        return column.to_pylist()
    encoded = column.combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    return [None if i is None else texts[i] for i in encoded.indices.to_pylist()]


def words_of(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def counted(images: Iterable[TrainingImage], key: Callable[[TrainingImage], str]) -> list[tuple[str, int]]:
    """How many images share each value of `key`, most common first."""
    return Counter(key(image) for image in images).most_common()
