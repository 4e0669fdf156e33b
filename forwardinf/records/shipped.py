"""The finished answers that ship with an index, in a folder of answers with a list that gives their order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ..errors import DamagedAsset
from ..files import atomic
from ..files.manifest import verify_manifest, write_manifest
from .record import Record
from .store import Asked, FolderStore, RecordStore, Result

LIST = "answers.json"


@dataclass(frozen=True)
class Listed:
    """An entry of the list."""

    id: str
    note: str  # what the answer is an example of; may be empty


@dataclass(frozen=True)
class ShippedAnswers:
    answers: tuple[tuple[Result, str], ...] = ()  # each with its note

    @classmethod
    def of(cls, folder: Path, fingerprint: str) -> ShippedAnswers:
        """The answers in `folder` that the index with this fingerprint gave; raises DamagedAsset or MissingAsset."""
        if not folder.is_dir():
            return cls()
        verify_manifest(folder)
        try:
            listed = TypeAdapter(tuple[Listed, ...]).validate_json((folder / LIST).read_bytes())
        except (ValidationError, OSError) as error:
            raise DamagedAsset(f"“{folder.name}/{LIST}” cannot be read.") from error
        found = ((FolderStore(folder).load(entry.id), entry.note) for entry in listed)
        return cls(tuple(answer for answer in found if answer[0].record.index.fingerprint == fingerprint))

    def get(self, result_id: str) -> Result | None:
        return next((result for result, _ in self.answers if result.id == result_id), None)


@dataclass(frozen=True)
class WithShipped:
    """A store in which the shipped answers are found too."""

    store: RecordStore
    shipped: ShippedAnswers

    def save(self, record: Record, csv: str, original: bytes, picture: bytes) -> Result:
        return self.store.save(record, csv, original, picture)

    def load(self, result_id: str) -> Result:
        return self.shipped.get(result_id) or self.store.load(result_id)

    def find(self, asked: Asked) -> Result:
        return self.shipped.get(asked.id) or self.store.find(asked)


def write_list(folder: Path, listed: Iterable[Listed]) -> None:
    """Complete a folder of answers by their list and a manifest."""
    atomic.write_json(folder / LIST, [asdict(entry) for entry in listed])
    write_manifest(folder)
