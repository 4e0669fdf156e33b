"""Finished trials of a study, one JSON line each, so that a study that was cut off goes on."""

from __future__ import annotations

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
        if not self.path.is_file():
            return
        for line in self.path.read_bytes().splitlines():
            try:
                trial = json.loads(line)
            except ValueError:
                continue
            if isinstance(trial, dict):
                yield trial

    def append(self, trial: dict[str, Any]) -> None:
        """Add one line, on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                if file.read() != b"\n":  # a line cut short must not swallow this one
                    file.write(b"\n")
            file.write(json.dumps(trial, ensure_ascii=False, sort_keys=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
