"""The pictures that visitors gave or generated, each known by the SHA-256 of its bytes, in one folder per visitor."""

from __future__ import annotations

import hashlib
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidRequest


@dataclass(frozen=True)
class KeptPicture:
    sha256: str
    name: str  # as the visitor's file was called, or as a download would be
    data: bytes  # as they arrived


class Pictures:
    """Pictures in `folder`; a visitor's stay there until the visitor leaves.

    Visitors are told apart by the id that the browser gives its session, which may be any text.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, dict[str, str]] = {}  # by visitor, then by SHA-256
        self._lock = threading.Lock()

    def keep(self, visitor: str | None, data: bytes, name: str) -> str:
        """The SHA-256 under which a visitor's picture can be read from now on."""
        sha256 = hashlib.sha256(data).hexdigest()
        folder = self._folder_of(visitor)
        with self._lock:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / sha256).write_bytes(data)
            self._names.setdefault(visitor or "", {})[sha256] = name
        return sha256

    def has(self, visitor: str | None, sha256: str | None) -> bool:
        """Whether a visitor's picture is kept here."""
        return sha256 in self._names.get(visitor or "", {})

    def read(self, visitor: str | None, sha256: str | None) -> KeptPicture:
        """A visitor's picture; raises InvalidRequest where it is not, or no longer, kept."""
        if not sha256:
            raise InvalidRequest("There is no picture yet. Drop one, or generate one from a prompt.")
        try:
            name = self._names[visitor or ""][sha256]
            return KeptPicture(sha256, name, (self._folder_of(visitor) / sha256).read_bytes())
        except (KeyError, OSError) as error:
            raise InvalidRequest("The picture is no longer kept here. Give it again.") from error

    def forget(self, visitor: str | None) -> None:
        """Remove a visitor's pictures."""
        with self._lock:
            self._names.pop(visitor or "", None)
            shutil.rmtree(self._folder_of(visitor), ignore_errors=True)

    def _folder_of(self, visitor: str | None) -> Path:
        return self.folder / hashlib.sha256((visitor or "").encode(errors="replace")).hexdigest()[:32]
