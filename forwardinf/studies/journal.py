"""Finished trials of a study, one JSON line each, so that a study that was cut off goes on.

The settings of trials, many and mostly the same, are lines of their own, which trials name by their digest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Journal:
    """An append-only file of trials; a line that an interruption cut short counts as absent."""

    path: Path

    def trials(self) -> Iterator[dict[str, Any]]:
        """Every trial with its settings whole, in the order in which they were added."""
        settings = {}
        for line in self._lines():
            if "key" in line:
                settings[line["key"]] = line["settings"]
            elif (key := str(line.get("settings"))) in settings:
                yield line | {"settings": settings[key]}

    def append(self, trial: dict[str, Any]) -> None:
        """Add one trial, on disk when this returns; several processes may add to one file."""
        settings = trial["settings"]
        key = hashlib.sha256(_written(settings)).hexdigest()[:12]
        known = any(line.get("key") == key for line in self._lines())
        lines = [] if known else [{"key": key, "settings": settings}]
        self._add(_written(line) + b"\n" for line in (*lines, trial | {"settings": key}))

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.is_file():
            return
        for written in self.path.read_bytes().splitlines():
            try:
                line = json.loads(written)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line

    def _add(self, lines: Iterable[bytes]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                if file.read() != b"\n":  # a line cut short must not swallow this one
                    file.write(b"\n")
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())


def _written(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, sort_keys=True).encode()
