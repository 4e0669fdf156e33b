"""Finished attributions, kept in a folder so that a link to one still answers after a restart.

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
from typing import Any

from ..errors import DamagedAsset, MissingAsset
from ..files.atomic import writing_folder

ASKED = ("version", "query", "method", "model", "index")  # what of a record decides its answer


@dataclass(frozen=True)
class Result:
    """A finished attribution as it is kept."""

    id: str
    folder: Path
    record: dict[str, Any]

    @property
    def csv(self) -> Path:
        return self.folder / "scores.csv"

    @property
    def json(self) -> Path:
        return self.folder / "record.json"

    @property
    def picture(self) -> Path:
        return self.folder / "query.png"


@dataclass(frozen=True)
class ResultStore:
    folder: Path

    def save(self, record: dict[str, Any], csv: str, original: bytes, picture: bytes) -> Result:
        """Keep a finished attribution, whole or not at all; `picture` is a PNG of the query as it was read."""
        result = self._at(id_of(record), record)
        with writing_folder(result.folder, replace=True) as whole:
            written = self._at(result.id, record, whole)
            (whole / "query.bin").write_bytes(original)
            written.picture.write_bytes(picture)
            written.csv.write_text(csv, encoding="utf-8", newline="")
            written.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return result

    def load(self, result_id: str) -> Result:
        """The result of a link; raises MissingAsset or DamagedAsset."""
        folder = self.folder / result_id
        if not re.fullmatch("[0-9a-f]{16}", result_id) or not (folder / "record.json").is_file():
            raise MissingAsset("This link leads to no result that is kept here. Give the picture again to have one.")
        try:
            record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise DamagedAsset(f"The result {result_id} cannot be read. Give the picture again.") from error
        return self._at(result_id, record)

    def _at(self, result_id: str, record: dict[str, Any], folder: Path | None = None) -> Result:
        return Result(result_id, folder or self.folder / result_id, record)


def id_of(record: dict[str, Any]) -> str:
    """16 hexadecimal digits that name what was asked."""
    asked = json.dumps({key: record[key] for key in ASKED}, sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]
