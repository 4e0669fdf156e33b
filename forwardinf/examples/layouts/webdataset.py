"""WebDataset: tars whose files belong together where their names agree up to the first dot of the last part.

Of the files of an example, `.txt` or `.caption` is its caption, and `.json` an object with further fields.
"""

from __future__ import annotations

import errno
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ...errors import InvalidRequest
from .captions import CAPTIONS
from .paths import SUFFIXES
from .protocol import Listing, Row
from .texts import decoded, objects_only, parsed_json

NAME = "*.tar"
ORDER = 70
COMPRESSED = ("*.tar.gz", "*.tgz", "*.tar.zst", "*.tar.xz", "*.tar.bz2")
MOST_TEXT = 2**20  # bytes of a caption or of an object


@dataclass
class _Example:
    """The files of one name."""

    picture: tarfile.TarInfo | None = None
    fields: dict[str, object] = field(default_factory=dict)


def listing(folder: Path) -> Listing | None:
    paths = sorted(path for path in folder.rglob(NAME) if path.is_file())
    if not paths:
        if packed := sorted(path.name for pattern in COMPRESSED for path in folder.glob(pattern)):
            raise InvalidRequest(f"“{packed[0]}” is compressed, so pictures in it cannot be found. Unpack it.")
        return None
    names = [path.relative_to(folder).as_posix() for path in paths]
    source = names[0] if len(names) == 1 else NAME
    rows, without = list[Row](), 0
    for path, name in zip(paths, names, strict=True):
        for key, example in _examples(path, name).items():
            if example.picture is None:
                without += 1
                continue
            place = f"{name} “{key}”" if len(names) > 1 else f"“{key}”"
            below = f"{name.removesuffix('.tar')}/{example.picture.name.removeprefix('./')}"
            read = partial(_content, path, name, example.picture)
            rows.append(Row(place, example.fields | {"file_name": below}, read))
    notes = [f"{without:,} examples have no picture ({', '.join(SUFFIXES)})"] if without else []
    return Listing(source, tuple(rows), tuple(notes))


def _examples(path: Path, name: str) -> dict[str, _Example]:
    """Examples by key; raises InvalidRequest where one has two pictures, or the tar cannot be read."""
    found: dict[str, _Example] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for key, suffix, member in _members(tar):
                example = found.setdefault(key, _Example())
                if suffix in SUFFIXES:
                    if example.picture:
                        raise InvalidRequest(
                            f"“{name}” has “{member.name}” and “{example.picture.name}”, so it is not known which is "
                            f"the picture of “{key}”. Keep one of them."
                        )
                    example.picture = member
                elif suffix in (*CAPTIONS, ".json"):
                    example.fields |= _fields(tar, member, suffix, f"{name}/{member.name}")
            _require_end(path, tar.offset)
    except (tarfile.TarError, OSError) as error:
        raise InvalidRequest(f"“{name}” cannot be read as a tar: it is damaged or cut short.") from error
    return found


def _require_end(path: Path, offset: int) -> None:
    """Raise ReadError where what follows the last file is neither nothing nor zeros: half a header, say."""
    with path.open("rb") as file:
        file.seek(offset)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError("unexpected end of data")


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Plain files, each with its key and with what follows that, in lower case."""
    for member in tar:
        folder, slash, base = member.name.removeprefix("./").rpartition("/")
        key, dot, suffix = base.partition(".")
        if member.isreg() and not member.issparse() and key and dot:
            yield f"{folder}{slash}{key}", f".{suffix.lower()}", member


def _fields(tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, where: str) -> dict[str, object]:
    if member.size > MOST_TEXT:
        raise InvalidRequest(f"“{where}” has {member.size:,} bytes, too many for a caption. Remove it from the tar.")
    file = tar.extractfile(member)
    text = decoded(file.read() if file else b"", where)
    if suffix == ".json":
        return objects_only(parsed_json(text, f"“{where}”"), f"“{where}”")
    return {"text": text.strip()}


def _content(path: Path, name: str, member: tarfile.TarInfo) -> bytes:
    try:
        with tarfile.open(path, "r:") as tar:
            file = tar.extractfile(member)
            return file.read() if file else b""
    except (tarfile.TarError, OSError) as error:
        raise OSError(errno.EIO, f"“{name}” is damaged") from error
