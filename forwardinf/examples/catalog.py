"""One row per training image: what it shows, who made it, on what terms, and where it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DamagedAsset, MissingAsset
from ..files.atomic import writing

FILE_NAME = "catalog.parquet"


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
    repeats: int  # how often one pass of training showed it


@dataclass(frozen=True)
class Catalog:
    """The rows of a training set, in id order, and the folder that their pictures lie in."""

    folder: Path
    images: tuple[TrainingImage, ...]

    @classmethod
    def load(cls, folder: Path) -> Catalog:
        """Read `folder/catalog.parquet`; raises MissingAsset or DamagedAsset."""
        path = folder / FILE_NAME
        if not path.is_file():
            raise MissingAsset(f"“{folder.name}/{FILE_NAME}” is missing. Restore it from a fresh copy of the project.")
        try:
            table = pq.read_table(path, columns=[field.name for field in fields(TrainingImage)])
        except (pa.ArrowException, OSError) as error:
            raise DamagedAsset(f"“{folder.name}/{FILE_NAME}” cannot be read as a catalog: {error}") from error
        return cls(folder, tuple(TrainingImage(**row) for row in table.to_pylist()))

    def save(self) -> Path:
        """Write the rows; the same rows give the same bytes."""
        path = self.folder / FILE_NAME
        with writing(path) as aside:
            pq.write_table(pa.Table.from_pylist([asdict(image) for image in self.images]), aside, compression="zstd")
        return path

    def of_split(self, split: str) -> Catalog:
        return Catalog(self.folder, tuple(image for image in self.images if image.split == split))

    def path_of(self, image: TrainingImage) -> Path:
        return self.folder / image.file_name

    @cached_property
    def by_id(self) -> dict[str, TrainingImage]:
        return {image.id: image for image in self.images}

    @cached_property
    def words(self) -> frozenset[str]:
        """Every lower-case word of a training caption: what a prompt can hope to be understood for."""
        return frozenset(word for image in self.images if image.split == "train" for word in words_of(image.caption))


def words_of(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def counted(images: Iterable[TrainingImage], key: Callable[[TrainingImage], str]) -> list[tuple[str, int]]:
    """How many images share each value of `key`, most common first."""
    return Counter(key(image) for image in images).most_common()
