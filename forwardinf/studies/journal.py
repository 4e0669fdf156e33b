"""Finished trials of a study, one JSON line each, so that a study that was cut off goes on.

The settings of trials, many and mostly the same, are lines of their own, which trials name by their digest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
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
        for written in self.path.read_bytes().splitlines() if self.path.is_file() else ():
            try:
                line = json.loads(written)
            except ValueError:
                continue
            if not isinstance(line, dict):
                continue
            if "key" in line:
                settings[line["key"]] = line["settings"]
            elif (key := str(line.get("settings"))) in settings:
                yield line | {"settings": settings[key]}

    def append(self, trial: dict[str, Any]) -> None:
        """Add one trial, on disk when this returns; several processes may add to one file."""
        key = hashlib.sha256(_written(trial["settings"])).hexdigest()[:12]
        settings = _written({"key": key, "settings": trial["settings"]}) + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0)
            before = file.read()
            if before and not before.endswith(b"\n"):  # a line cut short must not swallow this one
                file.write(b"\n")
            if settings not in before:
                file.write(settings)
            file.write(_written(trial | {"settings": key}) + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _written(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, sort_keys=True).encode()
