"""Names of pictures as rows give them, to one name for each file below the folder."""

from __future__ import annotations

import os.path
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from ...errors import InvalidRequest

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif")


def normalised(folder: Path, name: str, where: str) -> str:
    """The path of a picture below the folder, the same however it is spelt; raises InvalidRequest for one outside.

    The links of a folder are its owner's, so a picture may be a link to anywhere.
    """
    if not name or "\0" in name:
        raise InvalidRequest(f"{where} names no file.")
    below = PurePosixPath(os.path.normpath(name))
    for root in (Path(os.path.abspath(folder)), folder.resolve()):
        if below.is_absolute() and below.is_relative_to(root.as_posix()):
            below = below.relative_to(root.as_posix())
    if below.is_absolute() or below.parts[:1] in ((), ("..",)):
        shown = f"…/{below.name}" if below.is_absolute() else name
        raise InvalidRequest(f"{where} names “{shown}”, which is not a file below the folder.")
    return str(below)


class Missing:
    """Says why names below a folder lead to no file; each folder is listed once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: dict[Path, dict[str, str]] = {}

    def why(self, name: str) -> str:
        """What there is in place of a normalised name, or the file that was probably meant."""
        path = self._folder / name
        if path.is_symlink():
            return "is a link to a file that is not there"
        if path.is_dir():
            return "is a folder"
        meant = self._slashed(name) or self._folded(name) or self._completed(name) or self._shortened(name)
        return f"is not there, but {meant}" if meant else "is not there"

    def _slashed(self, name: str) -> str:
        meant = os.path.normpath(name.replace("\\", "/"))
        outside = meant.startswith(("/", ".."))
        return f"“{meant}” is: write / for \\" if meant != name and not outside and self._has(meant) else ""

    def _folded(self, name: str) -> str:
        """The file whose name is the same but for upper and lower case, or for how accents are encoded."""
        found = PurePosixPath()
        for part in PurePosixPath(name).parts:
            there = self._names_in(self._folder / found).get(_folding(part))
            if there is None:
                return ""
            found /= there
        meant = str(found)
        if not self._has(meant):
            return ""
        same = normalize("NFC", meant) == normalize("NFC", name)
        return f"“{meant}” is, {'accents encoded otherwise (NFC or NFD)' if same else 'upper and lower case differing'}"

    def _completed(self, name: str) -> str:
        there = [name + suffix for suffix in SUFFIXES if self._has(name + suffix)]
        return f"“{there[0]}” is" if there else ""

    def _shortened(self, name: str) -> str:
        parts = PurePosixPath(name).parts[1:]
        meant = str(PurePosixPath(*parts))
        return f"“{meant}” is: names start below the folder" if parts and self._has(meant) else ""

    def _has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def _names_in(self, folder: Path) -> dict[str, str]:
        if folder not in self._listed:
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
            self._listed[folder] = {_folding(name): name for name in names}
        return self._listed[folder]


def _folding(name: str) -> str:
    return normalize("NFC", name).casefold()
