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
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import manifest
from ..draws import DrawPlan
from ..errors import DamagedAsset, IndexMismatch, InvalidRequest, MissingAsset
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

    def part(self, example_ids: frozenset[str]) -> Shard:
        """The rows of these examples, in this shard's order."""
        rows = [i for i, example_id in enumerate(self.batch.example_ids) if example_id in example_ids]
        ids = tuple(self.batch.example_ids[i] for i in rows)
        return Shard(LatentBatch(ids, self.batch.latents[rows], self.batch.conditioning[rows]), self.base_losses[rows])


@dataclass(frozen=True)
class Index:
    """A verified index; its tensors stay on disk until they are asked for."""

    folder: Path
    info: IndexInfo
    catalog: Catalog
    fingerprint: str  # of the index itself, from its manifest
    only: frozenset[str] | None = None  # the examples that `part` left; None for all

    @property
    def count(self) -> int:
        """How many examples a sweep visits."""
        return self.info.examples if self.only is None else len(self.only)

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

    def part(self, example_ids: Iterable[str]) -> Index:
        """This index, sweeping these examples alone; raises InvalidRequest naming one that it does not hold."""
        only = frozenset(example_ids)
        if unknown := only - {image.id for image in self.catalog.images}:
            raise InvalidRequest(f"“{self.folder.name}” holds no training image “{min(unknown)}”.")
        return replace(self, only=only)

    def shards(self) -> Iterator[Shard]:
        """Every shard in order, memory-mapped."""
        for number in range(-(-self.info.examples // SHARD_SIZE)):
            shard = read_shard(self.folder, self.catalog, number)
            yield shard if self.only is None else shard.part(self.only)

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
