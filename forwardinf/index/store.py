"""An index on disk: latents and base losses in shards, the Fisher diagonal, embeddings, the catalog; one manifest.

index.json                  fingerprints of the model and the training images, draws, tunable weights, embedder, counts
catalog.parquet             one row per example
thumbnails/                 pictures to show, at most 128 px, without metadata; see thumbnails.py
shards/00000.safetensors    latents [n c h w] in float16, conditioning [n ...], base_losses and base_sizes [n d]
                            in float32
fisher.safetensors          diagonal Fisher of the tunable weights; see curvature_file.py
kronecker.safetensors       where it was asked for: the Fisher in Kronecker-factored eigenbases, in float32
neighbours.faiss            an embedding per example
mean.safetensors            mean latents of the examples trained on; an index of before has none
unadapted.safetensors       of a model with an adapter: losses without it; see unadapted_file.py
reference.json, .npz        the null: changes under pictures that the model never saw; see null_file.py
sketch.json, .faiss          where to look first for what a query changes most; see sketch_file.py
about.json                  when and from what it was built, and what was skipped; see about_file.py
manifest.json               SHA-256 of every file above
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import IndexMismatch, InvalidRequest
from ..examples.catalog import FILE_NAME as CATALOG
from ..examples.catalog import Catalog
from ..examples.fit import BUCKET
from ..files.manifest import Manifest
from ..stopping import check
from ..types import LatentBatch
from .curvature_file import FISHER, KRONECKER, read_fisher, read_kronecker, weights_of
from .info import ABOUT, INFO, REMEDY, IndexInfo, read_info
from .mean_file import MEAN, common_shape, mean_of, read_mean
from .neighbours import Neighbours
from .null_file import FILES, NullChanges, NullSizes, read_null
from .require import require
from .shards import Shard, joined, latent_shape, load_rows, load_shard, load_tensor, shard_name
from .sketch_file import INFO as SKETCH_INFO
from .sketch_file import SKETCHES, Sketches, read_sketches
from .sketch_file import read_info as read_sketch_info
from .thumbnails import Thumbnails
from .unadapted_file import UNADAPTED, read_unadapted

if TYPE_CHECKING:
    from torch import Tensor

    from ..gradients.curvature import WeightCurvature
    from ..models.protocol import AttributableModel

Curvature = TypeVar("Curvature")


@dataclass(frozen=True)
class Index:
    """A verified index. Its tensors stay on disk until they are needed, and are verified again when they are read."""

    manifest: Manifest
    info: IndexInfo
    catalog: Catalog
    only: frozenset[str] | None = None  # the examples that `part` left; None for all
    _curvatures: dict[tuple[str, str, str], Any] = field(default_factory=dict, compare=False, repr=False)
    _whole: Index | None = field(default=None, repr=False, compare=False)  # what this is a part of

    @classmethod
    def open(cls, folder: Path) -> Index:
        """Check every file; raises MissingAsset or DamagedAsset naming it, or IndexMismatch for another schema."""
        index = cls.recorded_in(folder)
        index.manifest.verify()
        return index

    @classmethod
    def open_verified(cls, folder: Path, fingerprint: str) -> Index:
        """The index that was verified under `fingerprint`, perhaps on another machine; what is read of it is verified.

        Raises IndexMismatch where the folder holds another index, and what `open` raises.
        """
        index = cls.recorded_in(folder)
        if index.fingerprint != fingerprint:
            raise IndexMismatch(
                f"“{folder.name}” holds another index ({index.fingerprint[:12]}…) than the one that is swept "
                f"({fingerprint[:12]}…). Copy that one there."
            )
        return index

    @classmethod
    def recorded_in(cls, folder: Path) -> Index:
        """The index that a folder says it holds, whose files are verified when they are read; raises as `open`."""
        read_info(folder)  # what is no index, or one of another schema, is refused as that
        manifest = Manifest.read(folder, REMEDY)
        info = IndexInfo.parse(folder.name, manifest.read_bytes(INFO))
        return cls(manifest, info, Catalog.parse(folder, manifest.read_bytes(CATALOG)))

    def with_files(self, *names: str) -> Index:
        """The same index with files that were written beside its others, which its manifest records from now on."""
        return self._recorded(self.manifest.with_files(*names))

    def without_files(self, *names: str) -> Index:
        """The same index without these files, which stay where they are but are not recorded any more."""
        return self._recorded(self.manifest.without_files(*names))

    def _recorded(self, manifest: Manifest) -> Index:
        manifest.write()
        return replace(self, manifest=manifest)

    @property
    def folder(self) -> Path:
        return self.manifest.folder

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that a score depends on: not of what only says where to look first, or spares reading."""
        whole = self._whole
        return self._scoring.fingerprint if whole is None or whole.manifest is not self.manifest else whole.fingerprint

    @property
    def count(self) -> int:
        """How many examples a sweep visits."""
        return self.info.examples if self.only is None else len(self.only)

    @cached_property
    def visited(self) -> tuple[str, ...]:
        """The examples that a sweep visits, in the index's order."""
        images = self.catalog.images
        return tuple(image.id for image in (images if self.only is None else (images[row] for row in self._rows)))

    @cached_property
    def _rows(self) -> list[int]:
        """Of the examples that a part of the index visits, ascending."""
        return sorted(self.catalog.numbers[example_id] for example_id in self.only or ())

    @cached_property
    def measured_fingerprint(self) -> str:
        """SHA-256 of all that methods measure on: the index without its null, which may be added later."""
        return self._scoring.fingerprint_besides(FILES)

    @cached_property
    def _scoring(self) -> Manifest:
        return self.thumbnail_files.unpacked.without_files(SKETCH_INFO, SKETCHES, MEAN, UNADAPTED, ABOUT)

    def require(self, model: AttributableModel) -> None:
        """Raise IndexMismatch unless this index was made with `model`, and knows every weight that a query may move."""
        require(model, self.info, self._weights, self.folder.name)

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
        if unknown := [example_id for example_id in only if example_id not in self.catalog.by_id]:
            raise InvalidRequest(f"“{self.folder.name}” holds no training image “{min(unknown)}”.")
        return replace(self, only=only, _whole=self._whole or self)

    def shards(self) -> Iterator[Shard]:
        """Every shard that a sweep visits; raises DamagedAsset where one was changed since the index was opened."""
        for number, ids in enumerate(self.shard_ids):
            check()
            if self.only is None or not self.only.isdisjoint(ids):
                shard = self.shard(number)
                yield shard if self.only is None else shard.part(self.only)

    def shard(self, number: int) -> Shard:
        """One shard with all its examples; raises as `shards` does."""
        return load_shard(self.manifest.read_bytes(shard_name(number)), self.shard_ids[number])

    def examples(self, example_ids: Iterable[str]) -> LatentBatch:
        """These examples together, in the index's order; reads nothing else. Raises as `shards` does.

        Also IndexMismatch where their latents are of several shapes, as those of buckets are.
        """
        found = self.by_shape(example_ids)
        if len(found) > 1:
            raise IndexMismatch(
                f"“{self.folder.name}” has images of {len(found)} shapes (--fit bucket) that this would take together. "
                "Choose images of one shape or another method, or build an index with --fit crop."
            )
        return found[0]

    def by_shape(self, example_ids: Iterable[str]) -> list[LatentBatch]:
        """These examples in a batch for each shape of latents, in the index's order; as `examples` otherwise."""
        wanted, found = frozenset(example_ids), dict[tuple[int, ...], list[LatentBatch]]()
        for number, ids in enumerate(self.shard_ids):
            if rows := [row for row, example_id in enumerate(ids) if example_id in wanted]:
                check()
                part = load_rows(self.manifest.verified(shard_name(number)), ids, rows)
                found.setdefault(tuple(part.latents.shape[1:]), []).append(part)
        return [joined(parts) for parts in found.values()]

    @cached_property
    def latent_shapes(self) -> list[tuple[int, ...]]:
        """Channels, height and width of the latents of each shard."""
        count = self.info.shard_count
        alike = 1 if self.info.fit == BUCKET else count  # shards whose shape is that of the first of them
        return [latent_shape(self.manifest.verified(shard_name(n))) for n in range(0, count, alike)] * alike

    @cached_property
    def shard_ids(self) -> list[tuple[str, ...]]:
        """The examples of each shard in order, whichever of them a sweep visits."""
        ids = [image.id for image in self.catalog.images]
        return [tuple(ids[rows]) for rows in self.info.rows]

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

        Reads every shard, once, where the index was built before it kept the mean. Where latents are of several shapes,
        it has the shape that `likeness` compares them in.
        """
        if MEAN in self.manifest.files:
            return read_mean(self.manifest)
        trained = (shard.batch.latents for shard in self.part(self.trained).shards())
        return mean_of(trained, common_shape(self.latent_shapes))

    @cached_property
    def unadapted_losses(self) -> Tensor | None:
        """Losses of all images with the model's adapter left out, `[n d]`; None where it has none."""
        return read_unadapted(self.manifest)

    @cached_property
    def null_changes(self) -> NullChanges | NullSizes | None:
        """What pictures that the model never saw score, where that was asked when the index was built."""
        return read_null(self.manifest, self.info.examples)

    @cached_property
    def is_sketched(self) -> bool:
        """Whether there are sketches; reads none of them."""
        return read_sketch_info(self.manifest) is not None

    @cached_property
    def sketches(self) -> Sketches | None:
        """What says where to look first; None where the index was built without."""
        return read_sketches(self.manifest, self.info.examples)

    @cached_property
    def thumbnails(self) -> Catalog:
        """The catalog whose pictures are the thumbnails, known by the SHA-256 of their own files."""
        return self.thumbnail_files.shown_by(self.catalog)

    @cached_property
    def thumbnail_files(self) -> Thumbnails:
        return Thumbnails(self.manifest, self.info.rows)

    @cached_property
    def neighbours(self) -> Neighbours:
        return Neighbours.read(self.manifest, [image.id for image in self.catalog.images])

    def fisher(self, device: str = "cpu") -> dict[str, Tensor]:
        """The diagonal Fisher by weight, in float32 on `device`; the same tensors every time, not to be written to."""
        return self._read_once(FISHER, device, read_fisher)

    def kronecker(self, device: str = "cpu") -> dict[str, WeightCurvature]:
        """The Fisher in its eigenbases by weight, likewise; raises IndexMismatch where the index was built without."""
        return self._read_once(KRONECKER, device, read_kronecker)

    def _read_once(self, name: str, device: str, read: Callable[[Manifest, str], Curvature]) -> Curvature:
        """What is kept for every part of this index too, until the file is another one."""
        key = (name, self.manifest.files.get(name, ""), device)
        if key not in self._curvatures:
            self._curvatures[key] = read(self.manifest, device)
        kept: Curvature = self._curvatures[key]
        return kept

    def _of_all_shards(self, name: str) -> Tensor:
        import torch

        if self.only is not None and self._whole is not None:  # which has read it, or will only read it once
            whole: Tensor = getattr(self._whole, name)
            return whole[self._rows]
        parts = []
        for number in range(self.info.shard_count):
            check()
            parts.append(load_tensor(self.manifest.verified(shard_name(number)), name))
        return torch.cat(parts)

    @cached_property
    def _weights(self) -> frozenset[str]:
        return weights_of(self.folder)
