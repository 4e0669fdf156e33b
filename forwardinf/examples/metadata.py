"""A folder of training images as people have it to the rows of a catalog.

One JSON object a line in `metadata.jsonl`, as the image folders of Hugging Face's datasets have it: file_name and text,
and where they are known creator, licence, licence_url, source, url, and split (train, or held_out for images that the
model was not trained on).
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import InvalidRequest, MissingAsset, UnreadablePicture
from .catalog import FILE_NAME, Catalog, TrainingImage
from .decoding.signatures import format_of

METADATA = "metadata.jsonl"
SPLITS = ("train", "held_out")
_ORIENTATION, _ON_ITS_SIDE = 0x0112, 5  # EXIF; from 5 on, width and height are swapped


def training_images(folder: Path) -> Catalog:
    """The catalog of a folder: its `catalog.parquet`, or made from its `metadata.jsonl`. No picture is decoded.

    Raises MissingAsset where there is neither, and InvalidRequest naming the line that cannot be used.
    """
    if (folder / FILE_NAME).is_file():
        return Catalog.load(folder)
    if not (folder / METADATA).is_file():
        raise MissingAsset(f"“{folder.name}” has neither {FILE_NAME} nor {METADATA}, so its images are not known.")
    try:
        lines = (folder / METADATA).read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise InvalidRequest(f"“{folder.name}/{METADATA}” is not text in UTF-8. Save it as that.") from error
    rows = [_row(folder, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InvalidRequest(f"“{folder.name}/{METADATA}” names no image.")
    _require_distinct(folder, rows)
    return Catalog(folder, tuple(sorted(rows, key=lambda row: row.id)))


def _row(folder: Path, number: int, line: str) -> TrainingImage:
    where = f"“{folder.name}/{METADATA}” line {number}"
    try:
        fields = json.loads(line)
        file_name, text = str(fields["file_name"]), str(fields["text"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{where} needs a JSON object with file_name and text.") from error
    data = _read(folder, file_name, where)
    width, height = _size_of(data, file_name, where)
    known = {key: str(fields.get(key) or "unknown") for key in ("creator", "licence", "source")}
    return TrainingImage(
        id=file_name, file_name=file_name, collection=folder.name, creator=known["creator"], licence=known["licence"],
        licence_url=str(fields.get("licence_url") or ""), source_package=known["source"], source_version="",
        source_file=file_name, source_url=str(fields.get("url") or ""), caption=text, subject=text, group="",
        subgroup="", tags="", width=width, height=height, sha256=hashlib.sha256(data).hexdigest(),
        phash="", split=_split(fields, where), repeats=1,
    )  # fmt: skip


def _read(folder: Path, file_name: str, where: str) -> bytes:
    path = (folder / file_name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise InvalidRequest(f"{where} names “{file_name}”, which is not a file below the folder.")
    return path.read_bytes()


def _size_of(data: bytes, file_name: str, where: str) -> tuple[int, int]:
    """Width and height of an upright picture in pixels, from its header."""
    try:
        with Image.open(io.BytesIO(data), formats=[format_of(data)]) as header:
            return header.size[::-1] if _is_on_its_side(header) else header.size
    except UnreadablePicture as refusal:
        raise InvalidRequest(f"{where} names a picture that cannot be read: “{file_name}” {refusal}") from refusal
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise InvalidRequest(f"{where} names “{file_name}”, whose header cannot be read as a picture's.") from error


def _is_on_its_side(header: Image.Image) -> bool:
    if header.format == "PNG" and "exif" not in header.info:  # it may come behind the pixels, which are not read here
        return False
    orientation: int = header.getexif().get(_ORIENTATION, 1)
    return orientation >= _ON_ITS_SIDE


def _split(fields: dict[str, Any], where: str) -> str:
    split = str(fields.get("split") or "train")
    if split not in SPLITS:
        raise InvalidRequest(
            f"{where} has the split “{split}”; it must be train, or held_out for what was not trained on."
        )
    return split


def _require_distinct(folder: Path, rows: list[TrainingImage]) -> None:
    """Raise InvalidRequest where two lines name one file: an id names one image."""
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise InvalidRequest(f"“{folder.name}/{METADATA}” names “{row.id}” twice. Remove one of the lines.")
        seen.add(row.id)
