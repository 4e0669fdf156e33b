"""An index on disk: latents and base losses in shards, the Fisher diagonal, the catalog, all under one manifest.

index.json            model fingerprint, draw plan, tunable weights, counts
catalog.parquet       one row per example
thumbnails/           pictures to show, at most 128 px, without metadata
shards/00000.safetensors    latents [n c h w], conditioning [n t], base_losses [n d]
fisher.safetensors    diagonal Fisher of the tunable weights
manifest.json         SHA-256 of every file above
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .. import manifest
from ..draws import DrawPlan
from ..errors import DamagedAsset, IndexMismatch, MissingAsset
from ..types import LatentBatch
from .catalog import Catalog

if TYPE_CHECKING:
    from torch import Tensor

    from ..models import AttributableModel

SCHEMA = 1
SHARD_SIZE = 1024  # examples


@dataclass(frozen=True)
class IndexInfo:
    """What an index was made with; `index.json`."""

    schema: int
    model: str  # name of the checkpoint, for people
    fingerprint: str  # of the model
    tunable: str
    draw_seed: int
    draw_count: int
    examples: int
    latent_shape: tuple[int, ...]  # c h w
    version: str  # of this package

    @property
    def plan(self) -> DrawPlan:
        return DrawPlan(self.draw_seed, self.draw_count)


@dataclass(frozen=True)
class Shard:
    batch: LatentBatch
    base_losses: Tensor  # [n d]


@dataclass(frozen=True)
class Index:
    """A verified index; its tensors stay on disk until they are asked for."""

    folder: Path
    info: IndexInfo
    catalog: Catalog
    fingerprint: str  # of the index itself, from its manifest

    @classmethod
    def open(cls, folder: Path) -> Index:
        """Check every file and read the rest; raises MissingAsset or DamagedAsset, naming the file."""
        if not (folder / "index.json").is_file():
            raise MissingAsset(f"“{folder.name}” is not an index: it has no index.json. Make one with `index build`.")
        fingerprint = manifest.verify_manifest(folder)
        return cls(folder, read_info(folder), Catalog.load(folder), fingerprint)

    def require(self, model: AttributableModel) -> None:
        """Raise IndexMismatch unless this index was made with `model` and the weights it lets a query move."""
        if self.info.fingerprint != model.fingerprint:
            raise IndexMismatch(
                f"“{self.folder.name}” was made with another model ({self.info.model}, {self.info.fingerprint[:12]}…; "
                f"this one is {model.fingerprint[:12]}…). Build the index again with this model."
            )

    @cached_property
    def trained(self) -> frozenset[str]:
        """Ids of the examples that the model was trained on; the others are there to compare with."""
        return frozenset(image.id for image in self.catalog.images if image.split == "train")

    def shards(self) -> Iterator[Shard]:
        """Every shard in order, memory-mapped."""
        for number in range(-(-self.info.examples // SHARD_SIZE)):
            yield read_shard(self.folder, self.catalog, number)

    def fisher(self) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        return load_file(self.folder / "fisher.safetensors")


def read_info(folder: Path) -> IndexInfo:
    try:
        fields = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        info = IndexInfo(**{**fields, "latent_shape": tuple(fields["latent_shape"])})
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedAsset(f"“{folder.name}/index.json” cannot be read. Build the index again.") from error
    if info.schema != SCHEMA:
        raise IndexMismatch(f"“{folder.name}” has schema {info.schema}; this version reads {SCHEMA}. Build it again.")
    return info


def write_info(folder: Path, info: IndexInfo) -> None:
    partial = folder / "index.partial"
    partial.write_text(json.dumps(asdict(info), indent=1) + "\n", encoding="utf-8")
    os.replace(partial, folder / "index.json")


def shard_path(folder: Path, number: int) -> Path:
    return folder / "shards" / f"{number:05}.safetensors"


def read_shard(folder: Path, catalog: Catalog, number: int) -> Shard:
    from safetensors.torch import load_file

    tensors = load_file(shard_path(folder, number))
    ids = tuple(image.id for image in catalog.images[number * SHARD_SIZE : (number + 1) * SHARD_SIZE])
    return Shard(LatentBatch(ids, tensors["latents"], tensors["conditioning"]), tensors["base_losses"])


def write_shard(folder: Path, number: int, shard: Shard) -> None:
    """Written aside and renamed, so that a shard is whole or absent."""
    from safetensors.torch import save_file

    path = shard_path(folder, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "latents": shard.batch.latents.contiguous(),
        "conditioning": shard.batch.conditioning.contiguous(),
        "base_losses": shard.base_losses.contiguous(),
    }
    save_file(tensors, path.with_suffix(".partial"))
    os.replace(path.with_suffix(".partial"), path)
