"""An index on disk: latents and base losses in shards, the Fisher diagonal, embeddings, the catalog; one manifest.

index.json            model fingerprint, draw plan, tunable weights, embedder, counts
catalog.parquet       one row per example
thumbnails/           pictures to show, at most 128 px, without metadata
shards/00000.safetensors    latents [n c h w] in float16, conditioning [n ...], base_losses and base_sizes [n d]
                            in float32
fisher.safetensors    diagonal Fisher of the tunable weights; see curvatures.py
kronecker.safetensors       where it was asked for: the Fisher in Kronecker-factored eigenbases, in float32
neighbours.faiss      an embedding per example
reference.*           scores under pictures that the model never saw; see reference.py
manifest.json         SHA-256 of every file above
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..draws import DrawPlan
from ..errors import DamagedAsset, IndexMismatch, InvalidRequest, MissingAsset
from ..examples.catalog import Catalog
from ..files import manifest
from ..files.atomic import write_json, writing
from ..types import LatentBatch
from .curvature_file import read_fisher, read_kronecker, weights_of
from .neighbours import Neighbours
from .null_file import FILES, Reference, read_reference

if TYPE_CHECKING:
    from torch import Tensor

    from ..gradients.curvature import WeightCurvature
    from ..models.protocol import AttributableModel

SCHEMA = 5


@dataclass(frozen=True)
class IndexInfo:
    """What an index was made with; `index.json`."""

    schema: int
    model: str  # name of the checkpoint, for people
    fingerprint: str  # of the model
    tunable: str
    draw_seed: int
    draw_count: int
    embedder: str  # what `load_embedder` takes
    embedder_fingerprint: str
    examples: int
    shard_size: int  # examples of every shard but the last
    latent_shape: tuple[int, ...]  # c h w
    version: str  # of this package

    @property
    def plan(self) -> DrawPlan:
        """The draws at which base losses are taken: the same for every example, and for a query."""
        return DrawPlan(self.draw_seed, self.draw_count, shared=True)


@dataclass(frozen=True)
class Shard:
    batch: LatentBatch
    base_losses: Tensor  # [n d]
    base_sizes: Tensor  # [n d], mean squares of what the model predicts

    def part(self, example_ids: frozenset[str]) -> Shard:
        """The rows of these examples, in this shard's order."""
        rows = [i for i, example_id in enumerate(self.batch.example_ids) if example_id in example_ids]
        ids = tuple(self.batch.example_ids[i] for i in rows)
        batch = LatentBatch(ids, self.batch.latents[rows], self.batch.conditioning[rows])
        return Shard(batch, self.base_losses[rows], self.base_sizes[rows])


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
        """Check every file; raises MissingAsset or DamagedAsset naming it, or IndexMismatch for another schema."""
        info = read_info(folder)
        fingerprint = manifest.verify_manifest(folder)
        return cls(folder, info, Catalog.load(folder), fingerprint)

    @cached_property
    def measured_fingerprint(self) -> str:
        """Of all that methods measure on: the index without its reference, which may be asked later, or anew."""
        return manifest.fingerprint_besides(self.folder, FILES)

    def require(self, model: AttributableModel) -> None:
        """Raise IndexMismatch unless this index was made with `model`, and knows every weight that a query may move."""
        if self.info.fingerprint != model.fingerprint:
            raise IndexMismatch(
                f"“{self.folder.name}” was made with another model ({self.info.model}, {self.info.fingerprint[:12]}…; "
                f"this one is {model.fingerprint[:12]}…). Build the index again with this model."
            )
        wanted = model.tunable_parameters().keys()
        if unknown := sorted(wanted - self._weights):
            raise IndexMismatch(
                f"“{self.folder.name}” has the Fisher of the weights “{self.info.tunable}”, but a query is to move "
                f"“{model.spec.tunable}”: {len(unknown)} of {len(wanted)} weights are missing, such as {unknown[0]}. "
                f"Move only “{self.info.tunable}”, or build an index with --tunable “{model.spec.tunable}”."
            )

    @cached_property
    def trained(self) -> frozenset[str]:
        """Ids of the examples that the model was trained on; the others are there to compare with."""
        return frozenset(image.id for image in self.catalog.images if image.split == "train")

    @cached_property
    def trained_mask(self) -> Tensor:
        """Which images of the catalog the model was trained on, in its order: `[n]` of bool."""
        import torch

        return torch.tensor([image.id in self.trained for image in self.catalog.images])

    def part(self, example_ids: Iterable[str]) -> Index:
        """This index, sweeping these examples alone; raises InvalidRequest naming one that it does not hold."""
        only = frozenset(example_ids)
        if unknown := only - self.catalog.by_id.keys():
            raise InvalidRequest(f"“{self.folder.name}” holds no training image “{min(unknown)}”.")
        return replace(self, only=only)

    def shards(self) -> Iterator[Shard]:
        """Every shard in order, memory-mapped."""
        for number in range(self._shard_count):
            shard = read_shard(self.folder, self.info.shard_size, self.catalog, number)
            yield shard if self.only is None else shard.part(self.only)

    @cached_property
    def base_losses(self) -> Tensor:
        """Losses under the model as it is, `[n d]`, of the examples that a sweep visits; reads no latents."""
        return self._of_all_shards("base_losses")

    @cached_property
    def base_sizes(self) -> Tensor:
        """Mean squares of what the model as it is predicts, `[n d]`, of the same."""
        return self._of_all_shards("base_sizes")

    @cached_property
    def mean_latents(self) -> Tensor:
        """Mean over the examples that the model was trained on, whichever of them a sweep visits; `[c h w]` in float32.

        Reads every shard, once.
        """
        import torch

        shards = (shard.batch for shard in self.part(self.trained).shards())
        total = sum((batch.latents.double().sum(dim=0) for batch in shards), torch.zeros(()))
        return (total / len(self.trained)).float()

    @cached_property
    def reference(self) -> Reference | None:
        """What pictures that the model never saw score, where that was asked when the index was built."""
        return read_reference(self.folder, self.info.examples)

    @cached_property
    def neighbours(self) -> Neighbours:
        return Neighbours.read(self.folder, [image.id for image in self.catalog.images])

    def fisher(self) -> dict[str, Tensor]:
        """The diagonal Fisher by weight, in float32."""
        return read_fisher(self.folder)

    def kronecker(self) -> dict[str, WeightCurvature]:
        """The Fisher in its eigenbases by weight; raises IndexMismatch where the index was built without."""
        return read_kronecker(self.folder)

    def _of_all_shards(self, name: str) -> Tensor:
        import torch
        from safetensors import safe_open

        parts = []
        for number in range(self._shard_count):
            with safe_open(shard_path(self.folder, number), framework="pt") as shard:
                parts.append(shard.get_tensor(name))
        whole = torch.cat(parts)
        return whole if self.only is None else whole[[i.id in self.only for i in self.catalog.images]]

    @cached_property
    def _weights(self) -> frozenset[str]:
        return weights_of(self.folder)

    @property
    def _shard_count(self) -> int:
        return -(-self.info.examples // self.info.shard_size)


def read_info(folder: Path) -> IndexInfo:
    """What an index was made with; raises MissingAsset, DamagedAsset, or IndexMismatch for another schema."""
    path = folder / "index.json"
    if not path.is_file():
        raise MissingAsset(f"“{folder.name}” is not an index: it has no index.json. Make one with `index build`.")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["schema"] != SCHEMA:
            raise IndexMismatch(
                f"“{folder.name}” has schema {fields['schema']}; this version reads {SCHEMA}. Build it again, in a new "
                "folder."
            )
        return IndexInfo(**{**fields, "latent_shape": tuple(fields["latent_shape"])})
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedAsset(f"“{folder.name}/index.json” cannot be read. Build the index again.") from error


def write_info(folder: Path, info: IndexInfo) -> None:
    write_json(folder / "index.json", asdict(info))


def shard_path(folder: Path, number: int) -> Path:
    return folder / "shards" / f"{number:05}.safetensors"


def read_shard(folder: Path, shard_size: int, catalog: Catalog, number: int) -> Shard:
    from safetensors.torch import load_file

    tensors = load_file(shard_path(folder, number))
    ids = tuple(image.id for image in catalog.images[number * shard_size : (number + 1) * shard_size])
    batch = LatentBatch(ids, tensors["latents"], tensors["conditioning"])
    return Shard(batch, tensors["base_losses"], tensors["base_sizes"])


def write_shard(folder: Path, number: int, shard: Shard) -> None:
    """Written aside and renamed, so that a shard is whole or absent."""
    from safetensors.torch import save_file

    tensors = {
        "latents": shard.batch.latents.contiguous(),
        "conditioning": shard.batch.conditioning.contiguous(),
        "base_losses": shard.base_losses.contiguous(),
        "base_sizes": shard.base_sizes.contiguous(),
    }
    with writing(shard_path(folder, number)) as aside:
        save_file(tensors, aside)
