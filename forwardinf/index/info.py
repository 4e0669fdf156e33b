"""What an index was made with: `index.json`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..draws import DrawPlan
from ..errors import DamagedAsset, IndexMismatch, MissingAsset

SCHEMA = 6
INFO, ABOUT = "index.json", "about.json"
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
    skipped: int = 0  # pictures that the training set names, and that could not be read

    @property
    def plan(self) -> DrawPlan:
        """The draws at which base losses are taken: the same for every example, and for a query."""
        return DrawPlan(self.draw_seed, self.draw_count, shared=True)

    @property
    def shard_count(self) -> int:
        return -(-self.examples // self.shard_size)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        fields = asdict(self)
        for added in ("dtype", "skipped"):  # not written where they are as before they were there
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
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedAsset(f"“{name}/{INFO}” cannot be read. {REMEDY}") from error


def read_info(folder: Path) -> IndexInfo:
    """What an index was made with, unverified; raises MissingAsset, DamagedAsset or IndexMismatch."""
    if not (folder / INFO).is_file():
        raise MissingAsset(f"“{folder.name}” is not an index: it has no {INFO}. Make one with `index build`.")
    return IndexInfo.parse(folder.name, (folder / INFO).read_bytes())
