"""Files and folders that appear whole or not at all.

What is being written lies in a folder `.partial-…` beside the place it is meant for, is flushed to disk, and takes that
place by a rename. The folder is locked while it is written to, so that `clear_leftovers` removes what a killed process
left behind, but nothing that another process is still writing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FULL = os.strerror(errno.ENOSPC)
PREFIX = ".partial-"  # of the folders that hold what is not whole yet


@contextmanager
def writing(path: Path, private: bool = False) -> Iterator[Path]:
    """Context manager: the path to write a file to, which takes the place of `path` when the block ends.

    `path` stays as it was where the block, or writing to disk, fails; a full disk is an OSError, whoever found it.
    Missing folders are made; the file gets the mode that the umask asks for, whatever the writer gave it; a `private`
    one is for its owner alone.
    """
    with _aside(path.parent, mode=0o700 if private else 0o777) as aside:
        try:
            yield aside / path.name
        except Exception as error:  # safetensors and FAISS tell a full disk in words alone
            if isinstance(error, OSError) or FULL not in str(error):
                raise
            raise OSError(errno.ENOSPC, FULL, str(path)) from error
        _flush(aside / path.name, _mode(aside) & 0o666)
        os.replace(aside / path.name, path)
    _sync(path.parent)


@contextmanager
def writing_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Context manager: an empty folder to fill, which takes the place of `path` when the block ends.

    A folder that is there already stays, and the new one is dropped, unless `replace`.
    """
    with _aside(path.parent) as aside:
        new = aside / path.name
        new.mkdir()
        yield new
        for entry in new.rglob("*"):
            _flush(entry, _mode(aside) & (0o777 if entry.is_dir() else 0o666))
        _sync(new)
        if replace and path.exists():
            path.rename(aside / "replaced")
        if not path.exists():
            new.rename(path)
    _sync(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it; whenever the process is killed, it is there whole or gone."""
    with _aside(path.parent) as aside:
        path.rename(aside / path.name)
        _sync(path.parent)


def write_once(path: Path, content: bytes) -> None:
    """Write a file for its owner alone; one that is there already, also by another process, stays."""
    with _aside(path.parent, mode=0o700) as aside:
        new = aside / path.name
        new.write_bytes(content)
        _flush(new, 0o600)
        with suppress(FileExistsError):
            path.hardlink_to(new)
    _sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    with writing(path) as aside:
        aside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """`text` in UTF-8, its line ends as they are."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Context manager: no other process is in it for this folder; raises BlockingIOError where one is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # the file system has no locks
        yield
    finally:
        os.close(descriptor)


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Context manager: a folder in `parent` for this user alone, removed with all that is in it when the block ends.

    What processes that were killed left of such folders is removed first. Raises OSError where none can be made.
    """
    if not parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(parent))
    clear_leftovers(parent, prefix)
    with _aside(parent, prefix, 0o700) as folder:
        yield folder


def clear_leftovers(folder: Path, prefix: str = PREFIX) -> None:
    """Remove what writers that were killed left in `folder`; its subfolders are not searched, nor what is not ours."""
    for leftover in folder.glob(f"{prefix}*"):
        descriptor = _locked(leftover) if _is_ours(leftover) else None
        if descriptor is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(descriptor)


@contextmanager
def _aside(parent: Path, prefix: str = PREFIX, mode: int = 0o777) -> Iterator[Path]:
    """A locked folder in `parent`, removed in the end with all that is still in it."""
    parent.mkdir(parents=True, exist_ok=True)
    descriptor = None
    while descriptor is None:  # `clear_leftovers` may take a folder that is not locked yet
        aside = parent / f"{prefix}{secrets.token_hex(8)}"
        aside.mkdir(mode)
        descriptor = _locked(aside, lockless=True)
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        os.close(descriptor)


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _locked(folder: Path, lockless: bool = False) -> int | None:
    """A descriptor that holds the lock of `folder` until it is closed; None where another one does, or it is gone.

    A file system without locks counts as one where another holds it, unless `lockless`.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lockless = True
    except BlockingIOError:
        lockless = False
    except OSError:
        pass  # the file system has no locks
    if lockless and folder.exists():
        return descriptor
    os.close(descriptor)
    return None


def _mode(folder: Path) -> int:
    """What the umask left of the folder's permissions; reading the umask itself would change it for other threads."""
    return folder.stat().st_mode


def _flush(path: Path, mode: int) -> None:
    path.chmod(mode)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
