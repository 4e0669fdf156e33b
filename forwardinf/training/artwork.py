"""Gather four open emoji collections into one catalogued training set.

    forwardinf artwork build --out assets/emoji

Packages come from the npm registry through the `npm` client, by name and pinned version. The rest of the project uses
only the pictures and the catalog that are written here.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import subprocess
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from ..examples.catalog import Catalog, TrainingImage
from ..files.atomic import writing_folder

DISPLAY_SIZE = 128
# Whole Unicode groups, so that each subject appears in every style; other groups are kept in reserve.
TRAINED_GROUPS = ("smileys-emotion", "animals-nature", "food-drink", "activities", "objects")
HELD_OUT_SHARE = 0.05
REPEATED_IMAGES, REPEATS = 40, 25
SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}


@dataclass(frozen=True)
class Collection:
    """A collection of artwork, with its source and its licence."""

    name: str
    style: str  # its name in captions
    package: str
    version: str
    creator: str
    licence: str  # SPDX
    licence_url: str
    project_url: str


COLLECTIONS = {
    c.name: c
    for c in (
        Collection(
            "openmoji", "OpenMoji", "openmoji", "17.0.0", "OpenMoji contributors", "CC-BY-SA-4.0",
            "https://creativecommons.org/licenses/by-sa/4.0/", "https://openmoji.org",
        ),
        Collection(
            "twemoji", "Twemoji", "emoji-datasource-twitter", "16.0.0", "Twitter, Inc. and other contributors",
            "CC-BY-4.0", "https://creativecommons.org/licenses/by/4.0/", "https://github.com/jdecked/twemoji",
        ),
        Collection(
            "noto", "Noto", "emoji-datasource-google", "16.0.0", "Google LLC (Noto Emoji authors)", "Apache-2.0",
            "https://www.apache.org/licenses/LICENSE-2.0", "https://github.com/googlefonts/noto-emoji",
        ),
        Collection(
            "fluent", "Fluent", "@lobehub/fluent-emoji-3d", "1.1.0", "Microsoft Corporation", "MIT",
            "https://github.com/microsoft/fluentui-emoji/blob/main/LICENSE", "https://github.com/microsoft/fluentui-emoji",
        ),
    )
}  # fmt: skip


def build_artwork(out: Path, downloads: Path, seed: int = 0) -> Path:
    """Write `pictures/<collection>/<code point>.webp` and `catalog.parquet` under `out`; returns the catalog's path.

    The same package versions and seed give the same bytes.
    """
    subjects = _subjects(fetch(COLLECTIONS["openmoji"], downloads))
    rows: list[TrainingImage] = []
    for collection in COLLECTIONS.values():
        package = fetch(collection, downloads)
        for code, source_file, picture in _pictures(collection, package, subjects):
            rows.append(_write_picture(out, collection, code, source_file, picture, subjects[code]))
    rows = assign_splits(sorted(rows, key=lambda row: row.id), seed)
    return Catalog(out, tuple(rows)).save()


def fetch(collection: Collection, downloads: Path) -> Path:
    """The unpacked npm package of a collection, downloaded once."""
    folder = downloads / f"{collection.name}-{collection.version}"
    if not folder.exists():
        downloads.mkdir(parents=True, exist_ok=True)
        spec = f"{collection.package}@{collection.version}"
        packed = subprocess.run(
            ["npm", "pack", "--silent", spec], cwd=downloads, check=True, capture_output=True, text=True
        )
        with (
            tarfile.open(downloads / packed.stdout.strip().splitlines()[-1]) as archive,
            writing_folder(folder) as aside,
        ):
            archive.extractall(aside, filter="data")
    return folder / "package"


def assign_splits(rows: list[TrainingImage], seed: int) -> list[TrainingImage]:
    """Rows with their split and repeats, stratified by collection; a pure function of the rows and the seed."""
    strata: dict[str, list[TrainingImage]] = defaultdict(list)
    for row in rows:
        if row.group in TRAINED_GROUPS:
            strata[row.collection].append(row)
    split: dict[str, str] = {}
    repeated: set[str] = set()
    for name, stratum in sorted(strata.items()):
        order = random.Random(f"{seed}/{name}").sample(stratum, len(stratum))
        held_out = round(HELD_OUT_SHARE * len(order))
        split |= {row.id: "held_out" if i < held_out else "train" for i, row in enumerate(order)}
        repeated |= {row.id for row in order[held_out:][: REPEATED_IMAGES // len(strata)]}
    return [
        replace(row, split=split.get(row.id, "reserve"), repeats=REPEATS if row.id in repeated else 1) for row in rows
    ]


def normal_code(name: str) -> str:
    """A file or code-point name without variation selectors: `1F34E-FE0F` and `1f34e` are the same emoji."""
    return "-".join(part for part in name.lower().split("-") if part != "fe0f")


def _subjects(openmoji: Path) -> dict[str, dict]:
    """Name, group, tags and author for each emoji that is not a skin-tone variant, keyed by normal code."""
    entries = json.loads((openmoji / "data/openmoji.json").read_text(encoding="utf-8"))
    return {normal_code(e["hexcode"]): e for e in entries if not e["skintone"]}


def _pictures(
    collection: Collection, package: Path, subjects: dict[str, dict]
) -> Iterator[tuple[str, str, Image.Image]]:
    """Yield (code, source file, RGBA picture) once per emoji of a collection."""
    folder = {
        "openmoji": "color/svg",
        "twemoji": "img/twitter/64",
        "noto": "img/google/64",
        "fluent": "assets",
    }[collection.name]
    seen: set[str] = set()
    for path in sorted((package / folder).iterdir()):
        code = normal_code(path.stem)
        if code in seen or code not in subjects or SKIN_TONES & set(code.split("-")):
            continue
        seen.add(code)
        yield code, f"{folder}/{path.name}", _open(path)


def _open(path: Path) -> Image.Image:
    if path.suffix != ".svg":
        return Image.open(path).convert("RGBA")
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_path=str(path), width=DISPLAY_SIZE, height=DISPLAY_SIZE, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def _write_picture(
    out: Path, collection: Collection, code: str, source_file: str, picture: Image.Image, subject: dict
) -> TrainingImage:
    import imagehash

    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    rgb = white.convert("RGB")
    if max(rgb.size) > DISPLAY_SIZE:
        rgb = rgb.resize((DISPLAY_SIZE, DISPLAY_SIZE), Image.Resampling.LANCZOS)
    file_name = f"pictures/{collection.name}/{code}.webp"
    path = out / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb.save(path, lossless=True, quality=100, method=4)
    openmoji = collection.name == "openmoji"
    return TrainingImage(
        id=f"{collection.name}-{code}",
        file_name=file_name,
        collection=collection.name,
        creator=subject["openmoji_author"] if openmoji else collection.creator,
        licence=collection.licence,
        licence_url=collection.licence_url,
        source_package=collection.package,
        source_version=collection.version,
        source_file=source_file,
        source_url=f"{collection.project_url}/library/emoji-{code.upper()}/" if openmoji else collection.project_url,
        caption=f"{subject['annotation']}, {collection.style} style",
        subject=subject["annotation"],
        group=subject["group"],
        subgroup=subject["subgroups"],
        tags=subject["tags"] or subject["openmoji_tags"],
        width=rgb.width,
        height=rgb.height,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        phash=str(imagehash.phash(rgb)),
        split="reserve",
        repeats=1,
    )
