"""Indexes sent to another place and fetched from one, verified by their manifests on either side.

A place holds an index when it has the manifest, which is sent last; a folder here holds what was fetched when all of it
was verified. So neither is ever half there.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import InvalidRequest, MissingAsset, TransferFailed
from ..files.atomic import writing_folder
from ..files.manifest import NAME as MANIFEST
from ..files.manifest import Manifest
from .card import card_of
from .info import INFO
from .places import Place
from .store import Index

CARD = "README.md"


def push(index: Index, place: Place) -> None:
    """Send a verified index, with a card that says what it is, to a place that holds none.

    Raises TransferFailed where it cannot be sent or one is there already, MissingAsset and DamagedAsset where the index
    is not whole.
    """
    index.manifest.verify()
    if place.has(MANIFEST):
        raise TransferFailed(f"“{place.name}” holds an index already. Name another place, or remove that one.")
    with TemporaryDirectory() as folder:
        card = Path(folder) / CARD
        card.write_text(card_of(index, place.name), encoding="utf-8")
        files = {name: index.folder / name for name in index.manifest.files}
        place.put({CARD: card, **files, MANIFEST: index.folder / MANIFEST})


def pull(place: Place, out: Path) -> Index:
    """Fetch an index into a new folder, and verify it.

    Raises InvalidRequest where the folder is there, TransferFailed where the place holds no index or cannot be read,
    MissingAsset or DamagedAsset where what came is not what its manifest says, and IndexMismatch for one of another
    version.
    """
    if out.exists():
        raise InvalidRequest(f"“{out.name}” is there already. Name a folder that is not.")
    with writing_folder(out) as aside:
        if not place.get(MANIFEST, aside / MANIFEST):
            raise TransferFailed(f"“{place.name}” is not an index, or was not sent whole: it has no {MANIFEST}.")
        manifest = Manifest.read(aside, f"Fetch it again, or have “{place.name}” sent anew.")
        if INFO not in manifest.files:
            raise TransferFailed(f"“{place.name}” is not an index: its {MANIFEST} records no {INFO}.")
        for name in manifest.files:
            if not place.get(name, aside / name):
                raise MissingAsset(f"“{place.name}” has no {name}, which its manifest records. {manifest.remedy}")
        manifest.verify()
        Index.open(aside)
    return Index.open(out)
