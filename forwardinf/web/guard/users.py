"""Who may sign in: a file of names, roles and hashes of passwords, for its owner alone."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from pydantic import BaseModel, ConfigDict, ValidationError

from ...errors import DamagedAsset, InvalidRequest, InvalidSettings
from ...files import atomic
from ...visible import on_a_line

SHORTEST, LONGEST = 10, 1000  # characters of a password
LONGEST_NAME = 64
MAKE_ONE = "Make one with `forwardinf users add NAME --role reviewer`."
_HASHER = PasswordHasher()  # argon2id with the parameters of RFC 9106 for little memory
_NOBODYS = _HASHER.hash(secrets.token_hex())  # so that an unknown name takes as long as a wrong password


class Role(StrEnum):
    REVIEWER = "reviewer"  # asks, uploads and decides
    VIEWER = "viewer"  # sees


@dataclass(frozen=True)
class User:
    name: str
    role: Role


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    role: Role
    password: str  # argon2id, with its parameters and salt


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    secret: str  # that sessions are signed with
    users: dict[str, _Entry]


class Users:
    """The users of a file, as it is now: a change of it holds from the next request on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int], _File] | None = None

    @classmethod
    def open(cls, path: Path) -> Users:
        """The users of a file; raises InvalidSettings where there are none, DamagedAsset where it cannot be read."""
        users = cls(path)
        if not users.named():
            raise InvalidSettings(f"“{path.name}” names no users, so nobody could sign in. {MAKE_ONE}")
        return users

    @property
    def secret(self) -> str:
        return self._file().secret

    def named(self) -> tuple[User, ...]:
        return tuple(User(name, entry.role) for name, entry in sorted(self._file().users.items()))

    def get(self, name: str) -> User | None:
        entry = self._file().users.get(name)
        return User(name, entry.role) if entry else None

    def stamp(self, name: str) -> str:
        """What changes when a user's password does; empty for nobody."""
        entry = self._file().users.get(name)
        return entry.password[-16:] if entry else ""

    def checked(self, name: str, password: str) -> User | None:
        """The user of this name and password; None where either is wrong. Takes 64 MB and some 50 ms."""
        entry = self._file().users.get(name)
        try:
            _HASHER.verify(entry.password if entry else _NOBODYS, password[:LONGEST])
        except (Argon2Error, InvalidHashError):
            return None
        return User(name, entry.role) if entry else None

    def add(self, name: str, role: Role, password: str) -> User:
        """Keep a user, in place of one of that name; raises InvalidRequest where name or password will not do."""
        name = name.strip()
        if not name or len(name) > LONGEST_NAME or on_a_line(name) != name:
            raise InvalidRequest(f"A name has 1 to {LONGEST_NAME} characters that can be seen.")
        if not SHORTEST <= len(password) <= LONGEST:
            raise InvalidRequest(f"The password has {len(password):,} characters; it needs {SHORTEST} to {LONGEST:,}.")
        self._write({**self._file().users, name: _Entry(role=role, password=_HASHER.hash(password))})
        return User(name, role)

    def remove(self, name: str) -> None:
        """Let a user sign in no more, and end their sessions; raises InvalidRequest where there is no such user."""
        users = dict(self._file().users)
        if users.pop(name, None) is None:
            raise InvalidRequest(f"There is no user “{name}”.")
        self._write(users)

    def _file(self) -> _File:
        with self._lock:
            try:
                found = self.path.stat()
                state = (found.st_mtime_ns, found.st_ino)
                if self._read is None or self._read[0] != state:
                    self._read = state, _File.model_validate_json(self.path.read_bytes())
            except FileNotFoundError:
                self._read = (0, 0), _File(secret=secrets.token_hex(32), users={})
            except (OSError, ValidationError) as error:
                raise DamagedAsset(f"“{self.path.name}” is no file of users that can be read. {MAKE_ONE}") from error
            return self._read[1]

    def _write(self, users: dict[str, _Entry]) -> None:
        file = _File(secret=self._file().secret, users=users)
        with atomic.writing(self.path, private=True) as aside:
            aside.write_text(file.model_dump_json(indent=1) + "\n", encoding="utf-8")
