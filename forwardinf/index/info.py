"""What an index was made with: `index.json`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from .. import __version__
from ..draws import DrawPlan
from ..errors import DamagedAsset, IndexMismatch, MissingAsset
from ..types import ModelSpec

SCHEMA = 6
INFO, ABOUT = "index.json", "about.json"
# Fields that were added, which are not written where they are as before they were there.
ADDED = ("dtype", "antithetic", "method", "skipped", "fit", "flip", "shards", "fisher_among", "picture_size")
REMEDY = "Run `index build` again into this folder, which makes anew only what is damaged."


@dataclass(frozen=True)
class IndexInfo:
    """All that an index follows from."""

    schema: int
    model: str  # name of the checkpoint, for people
    fingerprint: str  # of the model
    sources: str  # of the training images: `Catalog.sources`
    tunable: str
    draw_seed: int
    draw_count: int
    fisher_images: int
    fisher_draws: int
    embedder: str  # what `load_embedder` takes
    embedder_fingerprint: str
    examples: int
    shard_size: int  # examples of every shard but the last
    version: str  # of this package
    dtype: str = "float32"  # what the model ran in when base losses were taken
    antithetic: bool = False  # whether its draws are
    method: str = "forward_inf"  # that it was built for, by which questions are answered where none is named
    skipped: int = 0  # pictures that the training set names, and that could not be read
    fit: str = "pad"  # how pictures were made the model's shape
    flip: bool = False  # whether losses are means of a picture and its mirrored one
    shards: tuple[int, ...] = ()  # examples of each shard, where they are not as `shard_size` says
    fisher_among: int = 0  # examples, the first, that the Fisher was sampled from; 0 for all, as nothing was added
    picture_size: int | None = None  # that the model was told; None: as its checkpoint says

    @property
    def plan(self) -> DrawPlan:
        """The draws at which base losses are taken: the same for every example, and for a query."""
        return DrawPlan(self.draw_seed, self.draw_count, shared=True, antithetic=self.antithetic)

    @property
    def shard_count(self) -> int:
        return len(self.rows)

    @cached_property
    def rows(self) -> tuple[slice, ...]:
        """Which examples each shard holds, by their place in the catalog."""
        sizes = self.shards or sizes_of(self.examples, self.shard_size)
        return tuple(slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True))

    def applied_to(self, spec: ModelSpec) -> ModelSpec:
        """The model as pictures were prepared for it."""
        size = spec.picture_size or self.picture_size
        return replace(spec, fit=self.fit, flip=self.flip, picture_size=size)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        fields = asdict(self)
        for added in ADDED:
            if fields[added] == getattr(IndexInfo, added):
                del fields[added]
        return (json.dumps(fields, indent=1) + "\n").encode()

    @classmethod
    def parse(cls, name: str, content: bytes) -> IndexInfo:
        """The content of an `index.json`; raises DamagedAsset, or IndexMismatch for another schema."""
        try:
            fields = json.loads(content)
            if fields["schema"] != SCHEMA:
                raise IndexMismatch(
                    f"“{name}” has schema {fields['schema']}; this version reads {SCHEMA}. Build it again, in a new "
                    "folder."
                )
            unknown = fields.keys() - {one.name for one in dataclass_fields(cls)}
            if unknown and fields.get("version") != __version__:  # of this version it is damaged
                raise IndexMismatch(
                    f"“{name}” was built by version {fields.get('version')}, which knows of {min(unknown)}; this is "
                    f"{__version__}. Use that version, or build it again, in a new folder."
                )
            return cls(**fields | {"shards": tuple(fields.get("shards", ()))})
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedAsset(f"“{name}/{INFO}” cannot be read. {REMEDY}") from error


def prepared(fit: str, flip: bool) -> str:
    """How pictures are prepared, for people: “crop, and mirrored as well”."""
    return fit + (", and mirrored as well" if flip else "")


def sizes_of(examples: int, shard_size: int) -> list[int]:
    """Of shards that are full, but for the last."""
    return [min(shard_size, examples - start) for start in range(0, examples, shard_size)]


def read_info(folder: Path) -> IndexInfo:
    """What an index was made with, unverified; raises MissingAsset, DamagedAsset or IndexMismatch."""
    if not (folder / INFO).is_file():
        raise MissingAsset(f"“{folder.name}” is not an index: it has no {INFO}. Make one with `index build`.")
    return IndexInfo.parse(folder.name, (folder / INFO).read_bytes())
