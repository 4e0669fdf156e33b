"""Finished trials of a study, one JSON line each, so that an interrupted study resumes.

Many trials share the same settings, so settings are lines of their own, which trials refer to by key:

    {"key": "598754c312bd", "settings": {"method": …, "model": …}}
    {"settings": "598754c312bd", "query": "waves-4", "p_value": 0.9, …}

These files ship as evidence and change by lines in a diff, which is why they are not a database.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from ..files.identity import digest_of
from .settings import effective

Settings = dict[str, Any]
Trial = dict[str, Any]


class Journal:
    """An append-only file of trials, which several processes may append to; a line cut short counts as absent.

    Appending takes time that does not grow with the file: of what is there, only what was added since the last append
    is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_to, self._inode = 0, -1  # where the last append ended, and in which file
        self._settings: dict[str, Settings] = {}  # by key, of the lines up to there

    def trials(self) -> Iterator[Trial]:
        """Every trial with its settings in full, in the order in which they were added."""
        settings: dict[str, Settings] = {}
        for line in _parsed(self.path.read_bytes().splitlines() if self.path.is_file() else ()):
            if "key" in line:
                settings[line["key"]] = line["settings"]
            elif (key := str(line.get("settings"))) in settings:
                yield line | {"settings": settings[key]}

    def trials_with(self, settings: Settings) -> Iterator[Trial]:
        """The trials whose settings decide the same as these."""
        wanted = effective(json.loads(_written(settings)))  # in JSON's types, as they come back
        return (trial for trial in self.trials() if effective(trial["settings"]) == wanted)

    def append(self, trial: Trial) -> None:
        """Add one trial, which is on disk when this returns. Raises OSError where it cannot be written."""
        settings = json.loads(_written(trial["settings"]))
        key = digest_of(settings, 12)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            new = b"" if self._catch_up(file) else b"\n"  # a line cut short must not swallow the next one
            if self._settings.get(key) != settings:
                new += _written({"key": key, "settings": settings}) + b"\n"
            file.write(new + _written(trial | {"settings": key}) + b"\n")
            file.flush()
            os.fsync(file.fileno())
            self._settings[key], self._read_to = settings, file.tell()

    def _catch_up(self, file: IO[bytes]) -> bool:
        """Learn the settings that were added since the last append; returns whether the file ends in a whole line."""
        found = os.fstat(file.fileno())
        if found.st_ino != self._inode or found.st_size < self._read_to:  # replaced or cut: read it from the start
            self._read_to, self._inode, self._settings = 0, found.st_ino, {}
        file.seek(self._read_to)
        added = file.read()
        self._settings |= {line["key"]: line["settings"] for line in _parsed(added.splitlines()) if "key" in line}
        return added.endswith(b"\n") or not added


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The lines that are whole JSON objects."""
    for line in lines:
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if isinstance(fields, dict):
            yield fields


def _written(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, sort_keys=True).encode()
