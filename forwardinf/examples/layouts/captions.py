"""Pictures with a caption of the same name beside each, as `.txt` or `.caption`, in the folder and those below it.

Folders named N_NAME directly below are read as kohya's sd-scripts read them: an epoch shows their pictures N times, and
NAME is the caption of those that have none. Of several lines, the first is the caption.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .paths import SUFFIXES
from .protocol import Listing, Row
from .texts import decoded

NAME = "pictures with a .txt caption of the same name"
ORDER = 40
CAPTIONS = (".txt", ".caption")
_REPEATED = re.compile(r"(\d+)_(.+)")


def listing(folder: Path) -> Listing | None:
    found = _Found(folder)
    rows = [found.row(picture) for picture in found.pictures]
    if not found.captioned and not found.repeated:
        return None
    return Listing("captions beside the pictures", tuple(rows), tuple(found.notes()))


@dataclass
class _Found:
    """The pictures and captions of a folder, and what is noted while rows are made of them."""

    folder: Path
    pictures: list[PurePosixPath] = field(default_factory=list)  # below the folder, in order
    captions: dict[PurePosixPath, PurePosixPath] = field(default_factory=dict)  # by the picture's path without suffix
    captioned: set[PurePosixPath] = field(default_factory=set)  # captions that belong to a picture
    repeated: Counter[str] = field(default_factory=Counter)  # pictures by folder
    named: Counter[str] = field(default_factory=Counter)  # pictures by the folder that gave their caption
    longer: int = 0  # captions of several lines

    def __post_init__(self) -> None:
        files = sorted(_files(self.folder))
        self.pictures += [path for path in files if path.suffix.lower() in SUFFIXES]
        for suffix in reversed(CAPTIONS):
            self.captions |= {path.with_suffix(""): path for path in files if path.suffix.lower() == suffix}

    def row(self, picture: PurePosixPath) -> Row:
        fields: dict[str, object] = {"file_name": str(picture), "text": self._caption(picture)}
        if len(picture.parts) > 1 and (repeated := _REPEATED.fullmatch(picture.parts[0])):
            self.repeated[picture.parts[0]] += 1
            fields["repeats"] = repeated[1]
            if fields["text"] is None:
                self.named[picture.parts[0]] += 1
                fields["text"] = repeated[2]
        return Row("", fields)

    def notes(self) -> Iterator[str]:
        if self.repeated:
            told = ", ".join(f"{count:,} in “{name}”" for name, count in self.repeated.items())
            yield f"repeats by the names of folders: {told}"
        for name, count in self.named.items():
            yield f"{count:,} in “{name}” without a caption take the folder's: “{name.partition('_')[2]}”"
        if self.longer:
            yield f"{self.longer:,} captions have several lines, of which the first is read"
        if alone := sorted(set(self.captions.values()) - self.captioned):
            yield f"{len(alone):,} captions are beside no picture ({', '.join(SUFFIXES)}): “{alone[0]}”" + (
                " and others" if len(alone) > 1 else ""
            )

    def _caption(self, picture: PurePosixPath) -> str | None:
        path = self.captions.get(picture.with_suffix(""))
        if path is None:
            return None
        self.captioned.add(path)
        text = decoded((self.folder / path).read_bytes(), f"{self.folder.name}/{path}").strip()
        first, *others = text.split("\n")
        self.longer += bool(others)
        return first.strip()


def _files(folder: Path) -> Iterator[PurePosixPath]:
    """Every file below the folder that is not hidden, nor in a hidden folder; linked folders are followed."""
    for below, folders, names in os.walk(folder, followlinks=True):
        base = PurePosixPath(Path(below).relative_to(folder).as_posix())
        above = {os.path.realpath(folder / base), *(os.path.realpath(folder / parent) for parent in base.parents)}
        shown = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        folders[:] = [name for name in shown if os.path.realpath(os.path.join(below, name)) not in above]
        yield from (base / name for name in names if not name.startswith("."))
