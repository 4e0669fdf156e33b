"""The one writer of an index's folder: which of its files are whole, and the manifest in the end.

While an index is built, `building/` holds a line for each file that is whole, and the embeddings of finished shards. A
build that goes on trusts a file by its SHA-256 there, or in the manifest of the index that was there before.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import DamagedAsset, IndexMismatch, InvalidRequest, MissingAsset
from ..examples.catalog import FILE_NAME as CATALOG
from ..examples.catalog import Catalog
from ..files import atomic
from ..files.manifest import Manifest, sha256_of
from .info import INFO, REMEDY, IndexInfo, read_info

BUILDING = "building"
JOURNAL = f"{BUILDING}/whole.jsonl"
REMOVE = "Remove the folder, or name another one."


@contextmanager
def writing_alone(folder: Path) -> Iterator[None]:
    """Context manager: an index that no other process writes to; raises InvalidRequest where one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(atomic.alone_in(folder))
        except BlockingIOError as error:
            raise InvalidRequest(
                f"Another process is writing to “{folder.name}”. Wait until it ends, or name another folder."
            ) from error
        yield


@dataclass(frozen=True)
class IndexFolder:
    """A folder that an index is being written to."""

    folder: Path
    recorded: dict[str, str]  # SHA-256 by name, of files that were whole when they were written
    _sound: set[str] = field(default_factory=set)  # of these, the ones whose content is known to be still the same

    @classmethod
    def begin(cls, folder: Path, info: IndexInfo, catalog: Catalog) -> IndexFolder:
        """Go on in `folder`, or begin there; raises IndexMismatch or InvalidRequest where it holds something else."""
        folder.mkdir(parents=True, exist_ok=True)
        atomic.clear_leftovers(folder)
        begun = cls(folder, _recorded(folder))
        begun._require_the_same(info, catalog)
        (folder / BUILDING).mkdir(exist_ok=True)
        for name, content in ((INFO, info.to_bytes()), (CATALOG, catalog.to_bytes())):
            if not begun.is_sound(name):
                atomic.write_bytes(folder / name, content)
                begun.add(name)
        return begun

    def is_sound(self, name: str) -> bool:
        """Whether a file is there as it was written."""
        path = self.folder / name
        if name not in self._sound and path.is_file() and self.recorded.get(name) == sha256_of(path):
            self._sound.add(name)
        return name in self._sound

    def add(self, *names: str) -> None:
        """Note that these files are whole; it is on disk when this returns."""
        digests = {name: sha256_of(self.folder / name) for name in names}
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(digests) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self.recorded.update(digests)
        self._sound.update(names)

    def finish(self, names: Iterable[str], derived: Iterable[str]) -> None:
        """Record these files in one manifest, and of those `derived` from them the sound ones; others are removed.

        Nothing derived stays where one of `names` came out differently than it was. An index that is whole already
        stays as it is.
        """
        files, before = {name: self.recorded[name] for name in names}, _manifest_of(self.folder)
        same = all(before.get(name, digest) == digest for name, digest in files.items())
        for name in derived:
            if same and self.is_sound(name):
                files[name] = self.recorded[name]
            else:
                (self.folder / name).unlink(missing_ok=True)
        if files != before:
            Manifest(self.folder, dict(sorted(files.items())), REMEDY).write()
        shutil.rmtree(self.folder / BUILDING)

    def _require_the_same(self, info: IndexInfo, catalog: Catalog) -> None:
        """Raise IndexMismatch or InvalidRequest, naming the difference, where something else was begun here."""
        path, where = self.folder / INFO, f"“{self.folder.name}”"
        if self.recorded.get(INFO) == info.digest:  # whatever has become of the file
            return
        if not path.is_file():
            if any(entry.name != BUILDING for entry in self.folder.iterdir()):
                raise InvalidRequest(f"{where} is not empty and holds no index. Name another folder.")
            return
        if path.read_bytes() == info.to_bytes():
            return
        try:
            begun = read_info(self.folder)
        except DamagedAsset as error:
            raise DamagedAsset(f"{where} holds an index whose {INFO} is damaged. {REMOVE}") from error
        if begun.sources != info.sources:
            raise IndexMismatch(f"{where} holds an index of other images: {self._difference(catalog)}. {REMOVE}")
        raise IndexMismatch(f"{where} holds an index made otherwise: {_change(begun, info)}. {REMOVE}")

    def _difference(self, catalog: Catalog) -> str:
        try:
            return Catalog.parse(self.folder, (self.folder / CATALOG).read_bytes()).difference(catalog)
        except (OSError, DamagedAsset):
            return "its catalog cannot be read, but its checksum says so"


# Of fields of IndexInfo, in messages.
LABELS = {
    "model": "name of the model",
    "fingerprint": "model",
    "tunable": "choice of weights",
    "draw_seed": "seed of draws",
    "draw_count": "number of draws",
    "embedder_fingerprint": "embedder",
    "shard_size": "size of shards",
    "fisher_images": "number of images for the Fisher",
    "fisher_draws": "number of draws for the Fisher",
    "version": "version of this program",
    "dtype": "precision",
    "skipped": "number of pictures that cannot be read",
    "fit": "way pictures are made the model's shape (--fit)",
    "flip": "weighing of mirrored pictures (--flip)",
    "shards": "sizes of shards",
    "picture_size": "side of pictures (--picture-size)",
    "fisher_among": "number of images that the Fisher was sampled from",
}


def _change(begun: IndexInfo, info: IndexInfo) -> str:
    """The first thing that an index was begun with and that is another one now."""
    was, now = asdict(begun), asdict(info)
    name = next(name for name in now if now[name] != was[name])
    return f"the {LABELS.get(name, name)} was {_short(was[name])} and is {_short(now[name])} now"


def _short(value: object) -> str:
    return f"{value:.12}…" if isinstance(value, str) and len(value) > 40 else str(value)


def _recorded(folder: Path) -> dict[str, str]:
    """SHA-256 by name, of what was finished before and since; a line cut short counts as absent."""
    recorded = _manifest_of(folder)
    for line in (folder / JOURNAL).read_text(encoding="utf-8").splitlines() if (folder / JOURNAL).is_file() else ():
        try:
            recorded |= json.loads(line)
        except (ValueError, TypeError):
            continue
    return recorded


def _manifest_of(folder: Path) -> dict[str, str]:
    """What the manifest records; nothing where there is none that can be read."""
    try:
        return dict(Manifest.read(folder).files)
    except (MissingAsset, DamagedAsset):
        return {}
