"""Finished answers, kept so that a link to one still answers after a restart.

In a folder, each answer is a folder of its id:

<id>/record.json     settings, seeds, fingerprints and versions that reproduce it, and its results
<id>/scores.csv      every training image, ranked
<id>/query.bin       the query's original bytes
<id>/query.png       the query as it was read
<id>/manifest.json   the SHA-256 of these

.key                     what ids are made with

An id is a function of what was asked, of whom, and of the folder's key: the same picture, prompt, settings, model and
index share one link there, which nobody who knows all of them can foresee. Ids of earlier versions, and of answers that
ship, need no key.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from .. import __version__
from ..errors import DamagedAsset, ForwardInfError, MissingAsset
from ..files.atomic import clear_leftovers, write_once, writing_folder
from ..files.identity import digest_of, secret_digest_of
from ..files.manifest import NAME as SUMS
from ..files.manifest import write_manifest
from .record import Record
from .upgrade import read_record, schema_of

log = logging.getLogger(__name__)

FILES = RECORD, CSV, ORIGINAL, PICTURE = ("record.json", "scores.csv", "query.bin", "query.png")
KEY = ".key"
DIGITS = 16  # of an id, hexadecimal: with a thousand guesses a second, one of a million answers in 500 years
IN_MEMORY = 8  # answers, of up to 20 MB each, nearly all of it the query's original bytes
NO_RESULT = "This link leads to no result that is kept here. Give the picture again to get one."
NOT_KEPT = (
    "This answer could not be kept ({problem}). Download its files: the link works until the app ends or other answers "
    "take its place."
)
AGAIN = "Give the picture again to get a new answer."


@dataclass(frozen=True)
class Result:
    """A finished answer under the id of its link."""

    id: str
    record: Record
    csv: str
    original: bytes  # the query as it was given
    picture: bytes  # PNG of the query as it was read
    folder: Path | None = None  # None where it is in memory only
    not_kept: str = ""  # why it is, and what to do
    again: str = ""  # where it was kept before: how the answer that was to be kept compares with it

    @property
    def original_path(self) -> Path | None:
        return self.folder and self.folder / ORIGINAL


class RecordStore(Protocol):
    """Where finished answers are kept."""

    def save(self, record: Record, csv: str, original: bytes, picture: bytes) -> Result:
        """Keep an answer whole; where the same was asked before, that answer stays and is returned.

        The answer is returned also where it cannot be kept, with the reason in `not_kept`.
        """

    def load(self, result_id: str) -> Result:
        """The answer of a link; raises MissingAsset, or DamagedAsset where a file is not as it was kept."""

    def find(self, asked: Asked) -> Result:
        """The answer to a question; raises MissingAsset or DamagedAsset."""


@dataclass(frozen=True)
class FolderStore:
    """Answers in a folder on disk, which several processes may share; the last that did not fit there in memory."""

    folder: Path
    key: bytes | None = None  # without one, who knows what was asked knows the id
    _in_memory: dict[str, Result] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> FolderStore:
        """The store in `folder`, with its key, and without what killed processes left there half written."""
        clear_leftovers(folder)
        return cls(folder, _key_of(folder))

    def save(self, record: Record, csv: str, original: bytes, picture: bytes) -> Result:
        asked = asked_of(record)
        made = Result(self._id_of(asked), record, csv, original, picture)
        try:
            return self._found(asked)
        except ForwardInfError as absent:
            damaged = isinstance(absent, DamagedAsset)
        problem = self._write(made, replace_damaged=damaged)
        try:
            kept = self._kept(made.id)  # as another process made it, where that was faster
        except ForwardInfError:
            return self._hold(made, problem or "it cannot be read back")
        self._in_memory.pop(made.id, None)
        return kept

    def load(self, result_id: str) -> Result:
        if not re.fullmatch("[0-9a-f]{16}", result_id):
            raise MissingAsset(NO_RESULT)
        return self._in_memory.get(result_id) or self._kept(result_id)

    def find(self, asked: Asked) -> Result:
        return self._in_memory.get(self._id_of(asked)) or self._found(asked)

    def _found(self, asked: Asked) -> Result:
        """The answer to a question as it is on disk, perhaps since before there was a key."""
        with suppress(MissingAsset, DamagedAsset):
            return self._kept(asked.id)
        return self._kept(self._id_of(asked))

    def _id_of(self, asked: Asked) -> str:
        return asked.id if self.key is None else secret_digest_of(self.key, asked.parts, DIGITS)

    def _write(self, made: Result, replace_damaged: bool) -> str:
        """Write an answer's folder; returns what went wrong, or an empty text."""
        try:
            with writing_folder(self.folder / made.id, replace=replace_damaged) as whole:
                (whole / ORIGINAL).write_bytes(made.original)
                (whole / PICTURE).write_bytes(made.picture)
                (whole / CSV).write_bytes(made.csv.encode())
                (whole / RECORD).write_bytes(made.record.to_json().encode())
                write_manifest(whole)
        except OSError as error:
            log.warning("An answer could not be kept in “%s”.", self.folder, exc_info=error)
            return error.strerror or type(error).__name__
        return ""

    def _kept(self, result_id: str) -> Result:
        """The answer as it is on disk; raises MissingAsset or DamagedAsset."""
        folder = self.folder / result_id
        try:
            if not folder.is_dir():
                raise MissingAsset(NO_RESULT)
            record, csv, original, picture = _verified(folder)
            return Result(result_id, read_record(record), csv.decode(), original, picture, folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedAsset(f"The result {result_id} cannot be read. {AGAIN}") from error

    def _hold(self, made: Result, problem: str) -> Result:
        """Keep an answer in memory, in place of the oldest where there are too many."""
        held = replace(made, not_kept=NOT_KEPT.format(problem=problem))
        self._in_memory[made.id] = held
        for oldest in list(self._in_memory)[:-IN_MEMORY]:
            self._in_memory.pop(oldest, None)
        return held


def _key_of(folder: Path) -> bytes:
    """The key of a folder of answers, made where there is none; where none can be kept, one until the process ends."""
    new = secrets.token_bytes(32)
    try:
        write_once(folder / KEY, new)
        return (folder / KEY).read_bytes() or new
    except OSError as error:
        log.warning("Links to new answers change when the app ends: their key could not be kept.", exc_info=error)
        return new


def _verified(folder: Path) -> list[bytes]:
    """The content of `FILES`; raises DamagedAsset naming the first that is not as it was kept."""
    files = [(folder / name).read_bytes() for name in FILES]
    if schema_of(files[0]) == 1 and not (folder / SUMS).is_file():  # kept without checksums
        return files
    sums: dict[str, str] = json.loads((folder / SUMS).read_bytes())["files"]
    for name, content in zip(FILES, files, strict=True):
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise DamagedAsset(f"“{name}” of the result {folder.name} is not as it was kept. {AGAIN}")
    return files


@dataclass(frozen=True)
class Asked:
    """What decides an answer: the query, the method's settings, the model, the index, and the version of the code."""

    sha256: str  # of the picture
    prompt: str
    method: dict[str, Any]  # its name and every setting, in JSON's types
    model: str  # fingerprint
    tunable: str
    index: str  # fingerprint
    weighed: tuple[int, str] | None = None  # how many images were to be decided, and why no more were weighed
    version: str = __version__

    @property
    def parts(self) -> dict[str, Any]:
        """What the id is a digest of."""
        weighed = {"weighed": list(self.weighed)} if self.weighed else {}
        return {
            "version": self.version,
            "query": {"sha256": self.sha256, "prompt": self.prompt},
            "method": self.method,
            "model": {"fingerprint": self.model, "tunable": self.tunable},
            "index": {"fingerprint": self.index},
            **weighed,
        }

    @property
    def id(self) -> str:
        """16 hexadecimal digits that name the answer where there is no key."""
        return digest_of(self.parts, DIGITS)


def asked_of(record: Record) -> Asked:
    """What was asked, and of whom."""
    return Asked(
        sha256=record.query.sha256,
        prompt=record.query.prompt,
        method={"name": record.method.name, **record.method.settings},
        model=record.model.fingerprint,
        tunable=record.model.tunable,
        index=record.index.fingerprint,
        weighed=(record.weighed.first, record.weighed.ended) if record.weighed else None,
        version=record.version,
    )


def id_of(record: Record) -> str:
    """16 hexadecimal digits that name what was asked, and of whom, where there is no key."""
    return asked_of(record).id
