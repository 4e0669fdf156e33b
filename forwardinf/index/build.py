"""Training images to an index, in one pass over the pictures: decode, encode, embed, take base losses, thumbnails.

The Fisher is estimated from the stored latents. Building again gives the same bytes on the same machine, goes on where
it was cut off, and makes anew what is damaged, and only that.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..draws import DrawPlan
from ..embedders.protocol import Embedder, LatentEmbedder
from ..embedders.registry import load_embedder
from ..examples.catalog import FILE_NAME as CATALOG
from ..examples.catalog import Catalog, TrainingImage
from ..files.atomic import writing
from ..models.protocol import CaptionedPicture, adapted
from ..sweep.parts import Parts
from ..types import LatentBatch
from .curvature_file import FISHER, KRONECKER, write_fisher, write_kronecker
from .finite import require_finite
from .folder import BUILDING, IndexFolder, writing_alone
from .info import ABOUT, INFO, IndexInfo
from .mean_file import MEAN, write_mean
from .neighbours import FILE_NAME as NEIGHBOURS
from .neighbours import write_neighbours
from .null_file import SCORES, SETTINGS
from .plan import planned
from .progress import Watched
from .shards import Shard, joined, load_rows, shard_name, write_shard
from .sketch_file import INFO as SKETCH_INFO
from .sketch_file import SKETCHES
from .store import Index
from .thumbnails import name_of, pack_name, thumbnail_of, write_pack
from .unadapted_file import UNADAPTED, write_unadapted

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..models.protocol import PictureModel

OnProgress = Callable[[str, int, int], None]  # of a stage, what is done, and what there is to do
IMAGES, FISHER_STAGE, KRONECKER_STAGE = "images", "Fisher", "Kronecker factors"
UNADAPTED_STAGE = "images without the adapter"
# Of the pictures that are encoded at once: 64 of 64 × 64 on a CPU; elsewhere 8 of 512 × 512, some 5 GB in float32.
CPU_PIXELS, GPU_PIXELS = 2**18, 2**21
TASKS = "tasks"  # below BUILDING: what was measured of the shard that is being made, a batch in a file


@dataclass(frozen=True)
class BuildPlan:
    """How an index is made."""

    draws: int = 4
    seed: int = 0
    antithetic: bool = False  # whether draws are pairs of a noise and its negative
    method: str = IndexInfo.method  # that questions are to be answered by
    fisher_images: int = 150
    fisher_draws: int = 4
    kronecker: bool = False  # on demand, as it costs twice the Fisher's time and 3 to 10 times its disk
    splits: tuple[str, ...] = ("train", "held_out")
    embedder: str = "unet"  # or "vae", or a Hub id or folder
    shard_size: int = 1024  # examples


def build_index(
    model: PictureModel,
    source: Catalog,
    out: Path,
    plan: BuildPlan = BuildPlan(),
    on_progress: OnProgress = lambda stage, done, total: None,
) -> Index:
    """Write the index of `source` for `model` under `out`; one that is whole there stays as it is.

    `on_progress` is told the stage, and how much of it is done: at its start, at its end and in between.

    Raises IndexMismatch where another one was begun there, InvalidRequest where one is being built, UnsupportedModel
    for an embedder that cannot be loaded, NonFinite naming the image whose latents or losses are no numbers, and
    MissingAsset, DamagedAsset or UnreadablePicture naming the picture that cannot be used.
    """
    embedder = load_embedder(plan.embedder, model)
    source, info = planned(model, source, plan, embedder)
    indexed = Catalog(out, tuple(replace(image, file_name=name_of(n)) for n, image in enumerate(source.images)))
    with writing_alone(out):
        folder = IndexFolder.begin(out, info, indexed)
        return Build(model, embedder, source, folder, info, on_progress).finished(plan.kronecker)


@dataclass(frozen=True)
class Build:
    """An index that is being made in a folder, a shard of images at a time; what is whole in it already stays."""

    model: PictureModel
    embedder: Embedder
    source: Catalog
    folder: IndexFolder
    info: IndexInfo
    on_progress: OnProgress

    def finished(self, kronecker: bool, unadapted: Tensor | None = None) -> Index:
        """Make what is not there yet; `unadapted [n d]` are losses without the adapter of the first n images."""
        self.on_progress(IMAGES, 0, self.info.examples)
        for number, rows in enumerate(self.info.rows):
            self.write_part(number)
            self.on_progress(IMAGES, rows.stop, self.info.examples)
        self.write_neighbours()
        self.write_curvature(kronecker)
        added_later = (SETTINGS, SCORES, SKETCH_INFO, SKETCHES, MEAN, UNADAPTED, ABOUT)
        derived = added_later if kronecker else (KRONECKER, *added_later)
        self.folder.finish(self.names(kronecker), derived)
        for n in range(self.info.examples):  # as indexes were before
            (self.folder.folder / name_of(n)).unlink(missing_ok=True)
        index = Index.open(self.folder.folder)
        if MEAN not in index.manifest.files:
            write_mean(index.folder, index.mean_latents)
            index = index.with_files(MEAN)
        if (with_adapter := adapted(self.model)) and UNADAPTED not in index.manifest.files:
            write_unadapted(with_adapter, index, partial(self.on_progress, UNADAPTED_STAGE), unadapted)
            index = index.with_files(UNADAPTED)
        return index

    def names(self, kronecker: bool) -> list[str]:
        """Every file of the index in the end, but for what is added to it later."""
        numbers, always = range(self.info.shard_count), [INFO, CATALOG, NEIGHBOURS, FISHER, *[KRONECKER] * kronecker]
        return [*always, *map(shard_name, numbers), *map(pack_name, numbers)]

    def write_part(self, number: int) -> None:
        """The shard, embeddings and thumbnails of one part; its pictures are read once, and only if need be."""
        rows = self.info.rows[number]
        images, start = self.source.images[rows], rows.start
        if self._has_tensors(number):
            if not self.folder.is_sound(pack_name(number)):
                numbers = range(rows.start, rows.stop)
                write_pack(self.folder.folder, number, [self._thumbnail(n) for n in numbers])
                self.folder.add(pack_name(number))
            return
        batch, embeddings, thumbnails = self._encoded(images, start)
        self._write_embeddings(number, embeddings)
        write_pack(self.folder.folder, number, thumbnails)
        write_shard(self.folder.folder, number, self._measured(batch, start))
        self.folder.add(embeddings_name(number), shard_name(number), pack_name(number))
        shutil.rmtree(self.folder.folder / BUILDING / TASKS, ignore_errors=True)  # the shard has it all

    def write_neighbours(self) -> None:
        import numpy as np
        import torch

        if not self.folder.is_sound(NEIGHBOURS):
            parts = [np.load(self.folder.folder / embeddings_name(n)) for n in range(self.info.shard_count)]
            write_neighbours(self.folder.folder, torch.from_numpy(np.concatenate(parts)))
            self.folder.add(NEIGHBOURS)

    def write_curvature(self, kronecker: bool) -> None:
        from ..gradients.curvature import diagonal_fisher, kronecker_fisher

        draws = DrawPlan(self.info.draw_seed + 1, self.info.fisher_draws)
        if not self.folder.is_sound(FISHER):
            chosen = Watched(self._chosen, partial(self.on_progress, FISHER_STAGE))
            write_fisher(self.folder.folder, diagonal_fisher(self.model, chosen, draws))
            self.folder.add(FISHER)
        if kronecker and not self.folder.is_sound(KRONECKER):
            chosen = Watched(self._chosen, partial(self.on_progress, KRONECKER_STAGE), passes=2)
            write_kronecker(self.folder.folder, kronecker_fisher(self.model, chosen, draws))
            self.folder.add(KRONECKER)

    def _has_tensors(self, number: int) -> bool:
        embedded = self.folder.is_sound(NEIGHBOURS) or self.folder.is_sound(embeddings_name(number))
        return embedded and self.folder.is_sound(shard_name(number))

    def _encoded(self, images: Sequence[TrainingImage], start: int) -> tuple[LatentBatch, Tensor, list[bytes]]:
        """Images as the model sees them, with latents in float16; embeddings `[n f]`; files of thumbnails."""
        import torch

        batches, embeddings, thumbnails = list[LatentBatch](), [], list[bytes]()
        at_once = self._encoding.most
        for at in range(0, len(images), at_once):
            examples = []
            for image in images[at : at + at_once]:
                size = (image.width, image.height)
                examples.append(CaptionedPicture(image.id, self.source.picture(image), image.caption, size))
                thumbnails.append(thumbnail_of(examples[-1].picture))
            for _, (seen, embedded) in self._encoding.over(len(examples), partial(self._seen, examples)):
                batches.append(seen)
                embeddings.append(embedded)
            self._report(start, min(at + at_once, len(images)), 0)
        return joined(batches), torch.cat(embeddings), thumbnails

    @cached_property
    def _encoding(self) -> Parts:
        limit = CPU_PIXELS if self.model.spec.device == "cpu" else GPU_PIXELS
        return Parts.within(limit, self.model.picture_size**2)

    def _seen(self, examples: Sequence[CaptionedPicture], part: slice) -> tuple[LatentBatch, Tensor]:
        """A part of the examples as the model sees them, with latents in float16 on the CPU, and their embeddings."""
        encoded = self.model.encode(examples[part])
        embedded = self._embedded([example.picture for example in examples[part]], encoded.latents)
        # Every loss is taken from exactly these latents.
        mirrored = None if encoded.mirrored is None else encoded.mirrored.half().cpu()
        return replace(encoded, latents=encoded.latents.half().cpu(), mirrored=mirrored), embedded

    def _embedded(self, pictures: Sequence[Image], latents: Tensor) -> Tensor:
        by = self.embedder
        return by.embed_latents(latents) if isinstance(by, LatentEmbedder) else by.embed(pictures)

    def _report(self, start: int, encoded: int, measured: int) -> None:
        """How much of all images is done, where encoding one counts as much as a loss of it."""
        steps = encoded + self.info.plan.count * measured
        self.on_progress(IMAGES, start + steps // (1 + self.info.plan.count), self.info.examples)

    def _measured(self, batch: LatentBatch, start: int) -> Shard:
        import torch

        from ..sweep.executors.threads import measured_by_batch
        from ..sweep.journal import JobJournal
        from ..sweep.losses import losses_and_sizes

        ids = batch.example_ids
        for side in batch.sides:
            require_finite(side.latents, ids, "Encoding")
        require_finite(batch.conditioning, ids, "Encoding the caption of")

        def measure(part: LatentBatch) -> Tensor:
            draws = self.info.plan.draws(part.example_ids, part.latents.shape[1:], self.model.spec.device)
            return torch.stack(losses_and_sizes(self.model, part, draws), dim=1)  # [b 2 d]

        found, measured = [], 0
        remembered = JobJournal(self.folder.folder / BUILDING / TASKS).remembering(measure)
        for part, values in measured_by_batch(self.model, [batch], self.info.plan.count, remembered):
            self._report(start, len(ids), measured)
            measured += len(part.example_ids)
            found.append(values)
        losses, sizes = torch.cat(found).unbind(dim=1)
        require_finite(losses, ids, "The loss of", by_draw=True)
        require_finite(sizes, ids, "The size of the prediction for", by_draw=True)
        return Shard(batch, losses, sizes)

    def _write_embeddings(self, number: int, embeddings: Tensor) -> None:
        import numpy as np

        ids = [image.id for image in self.source.images[self.info.rows[number]]]
        require_finite(embeddings, ids, "Embedding")
        with writing(self.folder.folder / embeddings_name(number)) as aside:
            np.save(aside, embeddings.numpy())

    def _thumbnail(self, number: int) -> bytes:
        """An image's thumbnail, as it is there or from the picture."""
        if self.folder.is_sound(name_of(number)):
            return (self.folder.folder / name_of(number)).read_bytes()
        return thumbnail_of(self.source.picture(self.source.images[number]))

    @cached_property
    def _chosen(self) -> list[LatentBatch]:
        """Random training images, each by itself, that the curvature is estimated on."""
        among = self.source.images[: self.info.fisher_among or None]
        trained = [n for n, image in enumerate(among) if image.split == "train"]
        count = min(self.info.fisher_images, len(trained))
        chosen = random.Random(self.info.draw_seed).sample(trained, count)
        found = dict(self._stored(frozenset(chosen)))
        return [found[n] for n in chosen]

    def _stored(self, rows: frozenset[int]) -> Iterator[tuple[int, LatentBatch]]:
        """The stored latents of these images, each by itself, a shard at a time."""
        for number, of_shard in enumerate(self.info.rows):
            if within := sorted(rows.intersection(range(of_shard.start, of_shard.stop))):
                ids = [image.id for image in self.source.images[of_shard]]
                for row in within:
                    place = row - of_shard.start
                    yield row, load_rows(self.folder.folder / shard_name(number), ids, [place])


def embeddings_name(number: int) -> str:
    return f"{BUILDING}/embeddings-{number:05}.npy"
