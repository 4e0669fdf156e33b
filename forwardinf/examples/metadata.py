"""A folder of training images as people have it to the rows of a catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import InvalidRequest, UnreadablePicture
from .catalog import FILE_NAME, Catalog, TrainingImage
from .decoding.decoder import decode
from .decoding.signatures import format_of
from .layouts.hub_cache import located
from .layouts.keys import Keys
from .layouts.paths import Missing, normalised
from .layouts.pictures import size_of
from .layouts.protocol import Listing, Row
from .layouts.registry import find_listing

SPLITS = ("train", "held_out")
UNKNOWN = "unknown"
SHOWN = 10  # pictures that a refusal names
OnProgress = Callable[[int, int], None]  # of what is done, and what there is to do


@dataclass(frozen=True)
class TrainingFolder:
    """The catalog of a folder, and for people how it was read."""

    name: str
    catalog: Catalog
    source: str  # what in the folder says so: “metadata.jsonl”
    notes: tuple[str, ...] = ()  # one clause each
    skipped: tuple[str, ...] = ()  # pictures that cannot be read, each with its row and what is wrong with it

    def described(self) -> str:
        """Lines: what was read, and a note or a skipped picture in each."""
        head = f"{self.name}: {len(self.catalog.images):,} images by {self.source}"
        skipped = [f"skipped {picture}" for picture in self.skipped]
        return "\n  ".join([head, *self.notes, *skipped])


def training_images(folder: Path, keys: Mapping[str, str] | None = None) -> Catalog:
    """The catalog of a folder, as `read_training_folder` reads it."""
    return read_training_folder(folder, keys).catalog


def read_training_folder(
    folder: Path,
    keys: Mapping[str, str] | None = None,
    *,
    decode: bool = False,
    strict: bool = False,
    on_progress: OnProgress = lambda done, total: None,
) -> TrainingFolder:
    """A folder by its `catalog.parquet`, or else by the first layout that knows it; or `OWNER/NAME` in the Hub's cache.

    `keys` names, by field, keys of the rows to read in place of the usual ones. An id is the path below the folder.
    Pictures that are not there or cannot be read are skipped, by their headers, or where `decode` says so by all that
    they hold. `on_progress` is told how many pictures of how many were read.

    Raises MissingAsset where nothing there says what its images are, and InvalidRequest naming the row that cannot be
    used, or the pictures where `strict` forbids to skip any and where none is left.
    """
    folder = located(folder if folder.name else folder.resolve())
    if (folder / FILE_NAME).is_file():
        if keys:
            raise InvalidRequest(f"“{folder.name}” has a {FILE_NAME}, whose columns are fixed: leave --key out.")
        return TrainingFolder(folder.name, Catalog.load(folder), FILE_NAME)
    listing = find_listing(folder)
    chosen = Keys.among(listing.rows, keys or {}, f"“{folder.name}/{listing.source}”")
    read = _Reading(folder / listing.below, folder.name, listing, chosen, decode, on_progress)
    images, skipped = read.images()
    if skipped and (strict or not images):
        raise InvalidRequest(_refusal(folder, len(images), skipped))
    ordered = tuple(sorted(images, key=lambda image: image.id))
    held = any(row.read for row in listing.rows)
    catalog = Catalog(read.folder, ordered, read.content if held else None, skipped=len(skipped))
    return TrainingFolder(folder.name, catalog, listing.source, read.notes(catalog), tuple(skipped))


def _refusal(folder: Path, readable: int, skipped: Sequence[str]) -> str:
    count = f"{len(skipped):,} of {readable + len(skipped):,} pictures" if readable else "none of the pictures"
    rest = f" … and {len(skipped) - SHOWN:,} others." if len(skipped) > SHOWN else ""
    remedy = " Mend them, or leave --strict out to skip them." if readable else ""
    verb = "cannot" if readable else "can"
    return f"“{folder.name}”: {count} {verb} be read: {' '.join(skipped[:SHOWN])}{rest}{remedy}"


@dataclass(frozen=True)
class _Reading:
    """Rows that are being made into a catalog's."""

    folder: Path  # that rows are relative to
    collection: str  # what people call the set
    listing: Listing
    keys: Keys
    decode: bool
    on_progress: OnProgress

    def images(self) -> tuple[list[TrainingImage], list[str]]:
        """Images, and the pictures that are skipped."""
        images, skipped = list[TrainingImage](), list[str]()
        missing = Missing(self.folder)
        self.on_progress(0, len(self._named))
        for number, (name, (row, fields)) in enumerate(self._named.items(), 1):
            try:
                images.append(self._image(name, row, fields, missing))
            except UnreadablePicture as refusal:
                skipped.append(f"{row.where}: “{name}” {refusal}" if row.where else f"“{name}” {refusal}")
            self.on_progress(number, len(self._named))
        return images, skipped

    def content(self, name: str) -> bytes:
        """The picture's file; raises OSError where it cannot be read."""
        row = self._named[name][0]
        return row.read() if row.read else (self.folder / name).read_bytes()

    def notes(self, catalog: Catalog) -> tuple[str, ...]:
        notes = [f"keys: {self.keys.described()}", *self.listing.notes]
        if without := sum(not image.caption for image in catalog.images):
            notes.append(f"{without:,} without a caption")
        if not any(map(_is_credited, catalog.images)):
            notes.append("none has a creator, licence or source, so matches cannot be credited")
        return tuple(notes)

    @cached_property
    def _named(self) -> dict[str, tuple[Row, dict[str, str]]]:
        """Rows and their texts by the id of their image; raises InvalidRequest where two name one file."""
        found: dict[str, tuple[Row, dict[str, str]]] = {}
        for row in self.listing.rows:
            where = self._where(row)
            fields = self.keys.texts_of(row, where)
            name = normalised(self.folder, fields["file_name"], where)
            if name in found:
                raise InvalidRequest(
                    f"{where} names “{name}”, as {found[name][0].where} does. Remove one of them: an image has one "
                    "caption and one credit."
                )
            found[name] = row, fields
        return found

    def _where(self, row: Row) -> str:
        if row.where:
            return f"“{self.collection}/{self.listing.source}” {row.where}"
        return f"“{self.collection}/{row.fields['file_name']}”"

    def _image(self, name: str, row: Row, fields: dict[str, str], missing: Missing) -> TrainingImage:
        where = self._where(row)
        data = self._content(name, missing)
        width, height = size_of(data)
        if self.decode:
            decode(data, format_of(data))
        return TrainingImage(
            id=name, file_name=name, collection=self.collection, creator=fields.get("creator") or UNKNOWN,
            licence=fields.get("licence") or UNKNOWN, licence_url=fields.get("licence_url", ""),
            source_package=fields.get("source") or UNKNOWN, source_version="", source_file=name,
            source_url=fields.get("url", ""), caption=fields.get("text", ""), subject=fields.get("text", ""), group="",
            subgroup="", tags="", width=width, height=height, sha256=hashlib.sha256(data).hexdigest(), phash="",
            split=_split(fields, where), repeats=_repeats(fields, where),
        )  # fmt: skip

    def _content(self, name: str, missing: Missing) -> bytes:
        try:
            return self.content(name)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise UnreadablePicture(f"{missing.why(name)}.") from error
        except OSError as error:
            raise UnreadablePicture(f"cannot be opened: {error.strerror}.") from error


def _is_credited(image: TrainingImage) -> bool:
    return {image.creator, image.licence, image.source_package} != {UNKNOWN} or bool(image.source_url)


def _split(fields: Mapping[str, str], where: str) -> str:
    split = fields.get("split") or "train"
    if split not in SPLITS:
        raise InvalidRequest(
            f"{where} has the split “{split}”; it must be train, or held_out for what was not trained on."
        )
    return split


def _repeats(fields: Mapping[str, str], where: str) -> int:
    written = fields.get("repeats") or "1"
    if not (written.isascii() and written.isdigit() and int(written[:10]) >= 1 and len(written) < 10):
        raise InvalidRequest(f"{where} has “{written}” repeats; it must be a whole number from 1 on.")
    return int(written)
