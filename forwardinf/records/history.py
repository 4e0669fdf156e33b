"""The answers that are kept, as a list to search: what was asked, when, and what came out.

A listing reads each record once and verifies nothing; opening an answer does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ..errors import InvalidRequest, MissingAsset
from ..examples.catalog import words_of
from ..files.atomic import remove_folder
from .store import NO_RESULT, RECORD, FolderStore

Outcome = Literal["stands out", "nothing stands out", "not known"]


@dataclass(frozen=True)
class Kept:
    """A kept answer in a list."""

    id: str
    file_name: str
    prompt: str
    answered_at: datetime | None  # UTC
    verdict: str  # one sentence; empty in records of earlier versions
    number_standing_out: int | None
    index: str  # its name
    index_fingerprint: str
    method: str
    best: str  # caption of the first image; empty without images

    @property
    def outcome(self) -> Outcome:
        if self.number_standing_out is None:
            return "not known"
        return "stands out" if self.number_standing_out else "nothing stands out"


@dataclass(frozen=True)
class Wanted:
    """Which kept answers to list."""

    text: str = ""  # beginnings of words of a file name, a prompt, a verdict or the best image; all must occur
    outcome: Outcome | None = None
    index: str | None = None  # fingerprint

    def of(self, answers: Sequence[Kept]) -> list[Kept]:
        beginnings = [f" {word}" for word in words_of(self.text)]
        return [
            kept
            for kept in answers
            if self.outcome in (None, kept.outcome)
            and self.index in (None, kept.index_fingerprint)
            and all(beginning in _searchable(kept) for beginning in beginnings)
        ]


def _searchable(kept: Kept) -> str:
    return f" {' '.join(words_of(f'{kept.file_name} {kept.prompt} {kept.verdict} {kept.best}'))}"


@dataclass(frozen=True)
class History:
    """The answers in a store's folder; records that did not change are not read again."""

    store: FolderStore
    _read: dict[str, tuple[int, Kept]] = field(default_factory=dict)  # by id, with when its record was written

    def answers(self) -> list[Kept]:
        """All of them, the latest first; what cannot be read is left out."""
        found = {}
        for path in self.store.folder.glob(f"*/{RECORD}"):
            kept = self._kept(path)
            if kept is not None:
                found[kept.id] = kept
        for gone in self._read.keys() - found.keys():
            self._read.pop(gone, None)
        return sorted(found.values(), key=lambda kept: (kept.answered_at is not None, kept.answered_at, kept.id))[::-1]

    def delete(self, result_id: str) -> None:
        """Remove a kept answer; raises MissingAsset where there is none, InvalidRequest where it cannot be removed."""
        folder = self.store.load(result_id).folder
        if folder is None:
            raise MissingAsset(NO_RESULT)
        try:
            remove_folder(folder)
        except OSError as error:
            problem = error.strerror or type(error).__name__
            raise InvalidRequest(f"The answer {result_id} could not be deleted ({problem}).") from error

    def _kept(self, path: Path) -> Kept | None:
        result_id = path.parent.name
        try:
            written = path.stat().st_mtime_ns
            known = self._read.get(result_id)
            if known is None or known[0] != written:
                known = self._read[result_id] = written, _kept_of(result_id, json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return known[1]


def _kept_of(result_id: str, record: dict[str, Any]) -> Kept:
    query, index, results = record["query"], record["index"], record["results"]
    answered = record.get("answered_at")
    return Kept(
        id=result_id,
        file_name=query.get("file_name", ""),
        prompt=query["prompt"],
        answered_at=datetime.fromisoformat(answered) if answered else None,
        verdict=record.get("verdict", ""),
        number_standing_out=record["confidence"].get("stand_out"),
        index=index["name"],
        index_fingerprint=index["fingerprint"],
        method=record["method"]["name"],
        best=results[0]["caption"] if results else "",
    )
