"""Which files a folder holds, and whether they are still the same.

A single flipped bit in a safetensors, Parquet or FAISS file usually loads without complaint and changes results, so
every folder that ships carries the SHA-256 of its files.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath
from re import fullmatch
from typing import TypeVar

from ..config import ASSETS
from ..errors import DamagedAsset, MissingAsset
from . import atomic
from .identity import digest_of

NAME = "manifest.json"
SCHEMA = 1
READERS = 4  # files that are read at once
SETTLED = 10**9  # nanoseconds without a change after which a file's times tell one content from another
State = tuple[int, int, int, int]  # when a file's entry and its content changed, its size and its inode
Seen = tuple[str, State]  # the digest of a file in some state
Content = TypeVar("Content")
RESTORE = "Restore the folder from where it came from."


def sha256_of(path: Path | str) -> str:
    with open(path, "rb") as file:  # a Path for each of thousands of files takes a tenth of the time
        return hashlib.file_digest(file, "sha256").hexdigest()


def old_hash_of(path: Path) -> str:
    """Eight digits of the SHA-256 of 64 KiB from 1 MiB on, by which web UIs once named checkpoints and adapters."""
    with path.open("rb") as file:
        file.seek(2**20)
        return hashlib.sha256(file.read(2**16)).hexdigest()[:8]


@dataclass(frozen=True)
class Manifest:
    """The files of a folder with their SHA-256, by their path below the folder."""

    folder: Path
    files: Mapping[str, str]
    remedy: str = RESTORE  # what to do where a file is not as recorded
    _seen: dict[str, Seen] = field(default_factory=dict, compare=False, repr=False)  # files that were as recorded

    @classmethod
    def read(cls, folder: Path, remedy: str = RESTORE) -> Manifest:
        """The manifest of a folder, whose files are not read; raises MissingAsset or DamagedAsset.

        The messages end with `remedy`, or for a folder that ships with this project by how to restore it.
        """
        remedy = _shipped_remedy(folder) or remedy
        if not (folder / NAME).is_file():
            raise MissingAsset(f"“{folder.name}” has no {NAME}, so its files cannot be verified. {remedy}")
        try:
            fields = json.loads((folder / NAME).read_bytes())
        except ValueError as error:
            raise DamagedAsset(f"“{folder.name}/{NAME}” itself is damaged: it is not JSON. {remedy}") from error
        if fault := _fault_of(fields):
            raise DamagedAsset(f"“{folder.name}/{NAME}” itself is damaged: {fault}. {remedy}")
        return cls(folder, fields["files"], remedy)

    def verify(self) -> None:
        """Read every file; raises MissingAsset or DamagedAsset naming the first that is not as recorded."""
        with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as readers:
            try:
                for name, digest in zip(self.files, readers.map(self._digest_of, self.files), strict=True):
                    self._check(name, digest)
            finally:
                readers.shutdown(cancel_futures=True)

    def verified(self, name: str) -> Path:
        """Where a file lies whose content is as recorded; raises MissingAsset or DamagedAsset where it is not.

        One that was verified is not read again unless it was written to, by what the file system says of it.
        """
        if name not in self.files:
            raise self._unrecorded(name)
        if self._seen.get(name) != (self.files[name], self._opened(name, _state_of)):
            self._check(name, self._digest_of(name))
        return self.folder / name

    def read_bytes(self, name: str) -> bytes:
        """The content of a file, which is as recorded; raises MissingAsset or DamagedAsset where it is not."""
        content = self._opened(name, _content_of) if name in self.files else None
        if content is None:
            raise self._unrecorded(name)
        self._check(name, hashlib.sha256(content).hexdigest())
        return content

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the manifest, and so of the whole folder."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    def fingerprint_besides(self, pattern: str) -> str:
        """SHA-256 of the files whose names do not match `pattern`."""
        return digest_of({name: digest for name, digest in self.files.items() if not _matches(name, pattern)})

    def with_files(self, *names: str) -> Manifest:
        """The same with these files as they are now, in the order of names."""
        files = {**self.files, **{name: sha256_of(self.folder / name) for name in names}}
        return replace(self, files=dict(sorted(files.items())))

    def without_files(self, *names: str) -> Manifest:
        return replace(self, files={name: digest for name, digest in self.files.items() if name not in names})

    def write(self) -> None:
        atomic.write_text(self.folder / NAME, self._text)

    @property
    def _text(self) -> str:
        return json.dumps({"schema": SCHEMA, "files": dict(self.files)}, indent=1, ensure_ascii=False) + "\n"

    def _digest_of(self, name: str) -> str:
        """The SHA-256 of a file as it is, noted beside the state that the file was in."""
        before = self._opened(name, _state_of)
        digest = self._opened(name, sha256_of)
        settled = time.time_ns() - before[0] > SETTLED  # a write right after this could leave the same time
        if settled and self._opened(name, _state_of) == before:
            self._seen[name] = digest, before
        return digest

    def _unrecorded(self, name: str) -> MissingAsset:
        return MissingAsset(f"“{self.folder.name}/{NAME}” records no {name}. {self.remedy}")

    def _opened(self, name: str, read: Callable[[str], Content]) -> Content:
        try:
            return read(f"{self.folder}/{name}")
        except FileNotFoundError as error:
            raise MissingAsset(f"“{self.folder.name}/{name}” is missing. {self.remedy}") from error
        except OSError as error:
            why = error.strerror or "it cannot be opened"
            raise MissingAsset(f"“{self.folder.name}/{name}” cannot be read: {why}. {self.remedy}") from error

    def _check(self, name: str, digest: str) -> None:
        if digest != self.files[name]:
            raise DamagedAsset(f"“{self.folder.name}/{name}” differs from what its manifest records. {self.remedy}")


def write_manifest(folder: Path, besides: str = "") -> None:
    """Record every file below `folder`, but for names that match `besides` and what is still being written.

    A file that goes on growing after this is named by `besides`: its next line would count as damage.
    """
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    recorded = [name for name in names if name != NAME and _is_whole(name) and not _matches(name, besides)]
    Manifest(folder, {}).with_files(*recorded).write()


def verify_manifest(folder: Path) -> str:
    """The fingerprint of a folder whose files are all as recorded; raises MissingAsset or DamagedAsset."""
    manifest = Manifest.read(folder)
    manifest.verify()
    return manifest.fingerprint


def _shipped_remedy(folder: Path) -> str:
    """How to restore a folder that ships with this project; empty for any other."""
    resolved = folder.resolve()
    if not resolved.is_relative_to(ASSETS):
        return ""
    name = resolved.relative_to(ASSETS.parent).as_posix()
    return f"Restore it from a fresh copy of the project (git checkout -- {name})."


def _fault_of(fields: object) -> str:
    """What is wrong with the content of a manifest; empty where nothing is."""
    if not isinstance(fields, dict) or not isinstance(fields.get("files"), dict):
        return "it holds no object of files"
    if fields.get("schema") != SCHEMA:
        return f"its schema is {json.dumps(fields.get('schema'))}, where this version reads {SCHEMA}"
    if not fields["files"]:
        return "it records no file"
    for name, digest in fields["files"].items():
        if name == NAME or any(part in ("", ".", "..") for part in name.split("/")):
            return f"it records “{name}”, which is not the name of a file below the folder"
        if not isinstance(digest, str) or not fullmatch("[0-9a-f]{64}", digest):
            return f"it records no SHA-256 for “{name}”"
    return ""


def _state_of(path: str) -> State:
    found = os.stat(path)
    return found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino


def _content_of(path: str) -> bytes:
    return Path(path).read_bytes()


def _matches(name: str, pattern: str) -> bool:
    return fnmatch(PurePosixPath(name).name, pattern)


def _is_whole(name: str) -> bool:
    return not any(part.startswith(atomic.PREFIX) or part.endswith(".partial") for part in PurePosixPath(name).parts)
