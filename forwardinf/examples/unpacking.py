"""A ZIP of training images to a folder: nothing outside of it, no links, and no more than was bounded before."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import InvalidRequest
from ..files.atomic import writing_folder

MOST_FILES, MOST_BYTES = 100_000, 20 * 10**9  # in one archive, unpacked
SWELL, AT_LEAST = 200, 50 * 10**6  # times its own size that an archive may unpack to, and bytes that any may
_CHUNK = 1 << 20


def unpack(archive: Path, out: Path) -> None:
    """Write an archive's files below `out`, which must not be there: all of them or none.

    Raises InvalidRequest naming the entry that leads elsewhere, is a link, is there twice, or is encrypted, and where
    the archive is none, is damaged, or would unpack to more than pictures do.
    """
    try:
        with zipfile.ZipFile(archive) as opened, writing_folder(out) as folder:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            paths = _paths_of(entries)
            left = _room(archive, entries)
            for entry, path in zip(entries, paths, strict=True):
                target = folder.joinpath(*path.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as content, target.open("wb") as file:
                    left -= _copied(content, file, left)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise InvalidRequest(f"The ZIP cannot be read ({error}). Make it again.") from error


def _paths_of(entries: list[zipfile.ZipInfo]) -> list[PurePosixPath]:
    if len(entries) > MOST_FILES:
        raise InvalidRequest(f"The ZIP holds {len(entries):,} files; at most {MOST_FILES:,} are taken.")
    seen = dict[PurePosixPath, None]()
    for entry in entries:
        path, kind = PurePosixPath(entry.filename), stat.S_IFMT(entry.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in path.parts[0]:
            raise InvalidRequest(f"The ZIP’s “{entry.filename}” leads out of the folder. Make it again without.")
        if kind not in (0, stat.S_IFREG):
            raise InvalidRequest(f"The ZIP’s “{entry.filename}” is a link or a device. Put the file itself into it.")
        if entry.flag_bits & 1:
            raise InvalidRequest(f"The ZIP’s “{entry.filename}” is encrypted. Make it again without a password.")
        if path in seen:
            raise InvalidRequest(f"The ZIP holds “{entry.filename}” twice. Make it again with one of them.")
        seen[path] = None
    return list(seen)


def _room(archive: Path, entries: list[zipfile.ZipInfo]) -> int:
    """How many bytes it may unpack to; raises InvalidRequest where it says that it has more."""
    size, most = sum(entry.file_size for entry in entries), max(AT_LEAST, SWELL * archive.stat().st_size)
    most = min(most, MOST_BYTES, shutil.disk_usage(archive.parent).free)
    if size > most:
        raise _too_large(size)
    return most


def _copied(content: IO[bytes], file: IO[bytes], left: int) -> int:
    """Bytes that were copied: what an archive says of its sizes may be untrue."""
    count = 0
    while chunk := content.read(_CHUNK):
        count += len(chunk)
        if count > left:
            raise _too_large(count)
        file.write(chunk)
    return count


def _too_large(size: int) -> InvalidRequest:
    return InvalidRequest(
        f"The ZIP unpacks to {size / 1e6:,.0f} MB or more, far more than pictures do, or than there is room for. "
        "Name a folder on the server instead."
    )
