"""What a folder of shipped files should contain, and whether it does.

A single flipped bit in a safetensors, Parquet or FAISS file usually loads without complaint and changes results, so
every folder that ships carries the SHA-256 of its files.
"""

from __future__ import annotations

import hashlib
import json
from fnmatch import fnmatch
from pathlib import Path

from ..errors import DamagedAsset, MissingAsset
from . import atomic

NAME = "manifest.json"
SCHEMA = 1


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, besides: str = "") -> None:
    """Record every file below `folder`, but for names that match `besides` and what is still being made.

    The manifest appears whole or not at all. A file that goes on growing after this is named by `besides`: its next
    line would count as damage.
    """
    recorded = [p for p in _files(folder) if not fnmatch(p.name, besides)]
    files = {p.relative_to(folder).as_posix(): sha256_of(p) for p in recorded}
    atomic.write_json(folder / NAME, {"schema": SCHEMA, "files": files})


def verify_manifest(folder: Path) -> str:
    """The fingerprint of a folder whose files are all as its manifest says.

    Raises MissingAsset or DamagedAsset, naming the first file that is not.
    """
    path = folder / NAME
    for name, expected in _recorded(folder).items():
        file = folder / name
        if not file.is_file():
            raise MissingAsset(f"“{folder.name}/{name}” is missing. {_REMEDY}")
        if sha256_of(file) != expected:
            raise DamagedAsset(f"“{folder.name}/{name}” differs from what its manifest records. {_REMEDY}")
    return sha256_of(path)


def fingerprint_besides(folder: Path, besides: str) -> str:
    """The fingerprint of the recorded files whose names do not match `besides`; the files are not read."""
    files = {name: digest for name, digest in _recorded(folder).items() if not fnmatch(Path(name).name, besides)}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _recorded(folder: Path) -> dict[str, str]:
    """SHA-256 by name, as the manifest has them."""
    path = folder / NAME
    if not path.is_file():
        raise MissingAsset(f"“{folder.name}” has no {NAME}. {_REMEDY}")
    try:
        files: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedAsset(f"“{folder.name}/{NAME}” cannot be read. {_REMEDY}") from error
    return files


_REMEDY = "Restore it from a fresh copy of the project (git checkout -- assets)."


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != NAME and _whole(p.relative_to(folder)))


def _whole(path: Path) -> bool:
    """Whether a path below the folder is not one of what is still being made."""
    return not any(part.startswith(atomic.PREFIX) or part.endswith(".partial") for part in path.parts)
