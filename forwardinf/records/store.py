"""Finished answers, kept so that a link to one still answers after a restart.

In a folder, each answer is a folder of its id:

<id>/record.json     settings, seeds, fingerprints and versions that reproduce it, and its results
<id>/scores.csv      every training image, ranked
<id>/query.bin       the query's original bytes
<id>/query.png       the query as it was read

An id is a function of what was asked and of whom: the same picture, prompt, settings, model and index share one link.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import DamagedAsset, MissingAsset
from ..files.atomic import writing_folder
from .record import Record
from .upgrade import read_record

RECORD, CSV, ORIGINAL, PICTURE = "record.json", "scores.csv", "query.bin", "query.png"


@dataclass(frozen=True)
class Result:
    """A finished answer as it is kept, under the id of its link."""

    id: str
    record: Record
    csv: str
    original: bytes  # the query as it was given
    picture: bytes  # PNG of the query as it was read
    folder: Path | None = None  # None where it could not be kept on disk
    not_kept: str = ""  # why it could not

    @property
    def original_path(self) -> Path | None:
        return self.folder and self.folder / ORIGINAL


class RecordStore(Protocol):
    """Where finished answers are kept."""

    def save(self, record: Record, csv: str, original: bytes, picture: bytes) -> Result:
        """Keep an answer, whole or not at all; where the same was answered before, that answer stays."""

    def load(self, result_id: str) -> Result:
        """The answer of a link; raises MissingAsset or DamagedAsset."""


@dataclass(frozen=True)
class FolderStore:
    """Answers in a folder on disk."""

    folder: Path

    def save(self, record: Record, csv: str, original: bytes, picture: bytes) -> Result:
        folder = self.folder / id_of(record)
        with writing_folder(folder) as whole:
            (whole / ORIGINAL).write_bytes(original)
            (whole / PICTURE).write_bytes(picture)
            (whole / CSV).write_text(csv, encoding="utf-8", newline="")
            (whole / RECORD).write_text(record.to_json(), encoding="utf-8")
        return self.load(folder.name)

    def load(self, result_id: str) -> Result:
        folder = self.folder / result_id
        if not re.fullmatch("[0-9a-f]{16}", result_id) or not (folder / RECORD).is_file():
            raise MissingAsset("This link leads to no result that is kept here. Give the picture again to have one.")
        try:
            record, csv = read_record((folder / RECORD).read_bytes()), (folder / CSV).read_bytes().decode()
            original, picture = (folder / ORIGINAL).read_bytes(), (folder / PICTURE).read_bytes()
        except (DamagedAsset, OSError, ValueError) as error:
            raise DamagedAsset(f"The result {result_id} cannot be read. Give the picture again.") from error
        return Result(result_id, record, csv, original, picture, folder)


def id_of(record: Record) -> str:
    """16 hexadecimal digits that name what was asked, and of whom."""
    return hashlib.sha256(json.dumps(asked_of(record), sort_keys=True).encode()).hexdigest()[:16]


def asked_of(record: Record) -> dict[str, Any]:
    """What decides an answer: the query, the method's settings, the model, the index, and the version of the code."""
    model, index = record.model, record.index
    return {
        "version": record.version,
        "query": {"sha256": record.query.sha256, "prompt": record.query.prompt},
        "method": {"name": record.method.name, **record.method.settings},
        "model": {"fingerprint": model.fingerprint, "tunable": model.tunable},
        "index": {"fingerprint": index.fingerprint},
    }
