"""Training images to an index: encode, take base losses, estimate the Fisher, embed, write thumbnails and manifest.

Building resumes: a shard that is there is kept. Building again gives the same bytes on the same machine.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..draws import DrawPlan
from ..embedders.protocol import Embedder
from ..embedders.registry import load_embedder
from ..errors import IndexMismatch, InvalidRequest, MissingAsset, UnreadablePicture
from ..examples.catalog import FILE_NAME, Catalog, TrainingImage
from ..examples.decoding import read_training_picture, to_square
from ..files import manifest
from ..types import LatentBatch
from .curvature_file import FISHER, write_fisher, write_kronecker
from .neighbours import FILE_NAME as NEIGHBOURS
from .neighbours import write_neighbours
from .store import SCHEMA, Index, IndexInfo, Shard, read_info, shard_path, write_info, write_shard

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..models.protocol import PictureModel

THUMBNAIL = 128  # pixels
ENCODE_BATCH = 64


@dataclass(frozen=True)
class BuildPlan:
    """How an index is made."""

    draws: int = 4
    seed: int = 0
    fisher_images: int = 150
    fisher_draws: int = 4
    kronecker: bool = False  # on demand, as it costs twice the Fisher's time and 3 to 10 times its disk
    splits: tuple[str, ...] = ("train", "held_out")
    embedder: str = "unet"  # or "vae", or a Hub id or folder
    shard_size: int = 1024  # examples


def training_images(folder: Path) -> Catalog:
    """The catalog of a folder: its `catalog.parquet`, or made from an image folder's `metadata.jsonl`.

    Raises MissingAsset where there is neither, and InvalidRequest naming the line that cannot be used.
    """
    if (folder / FILE_NAME).is_file():
        return Catalog.load(folder)
    path = folder / "metadata.jsonl"
    if not path.is_file():
        raise MissingAsset(f"“{folder.name}” has neither {FILE_NAME} nor metadata.jsonl, so its images are not known.")
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [_row(folder, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InvalidRequest(f"“{folder.name}/metadata.jsonl” names no image.")
    return Catalog(folder, tuple(sorted(rows, key=lambda row: row.id)))


def build_index(
    model: PictureModel,
    source: Catalog,
    out: Path,
    plan: BuildPlan = BuildPlan(),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Index:
    """Write the index of `source` for `model` under `out`.

    Raises IndexMismatch where another one was begun there, and UnsupportedModel for an embedder that cannot be loaded.
    """
    embedder = load_embedder(plan.embedder, model)
    images = tuple(image for image in source.images if image.split in plan.splits)
    source = Catalog(source.folder, images)
    info = _info(model, source, plan, embedder)
    _begin(out, info)
    for number, start in enumerate(range(0, len(images), plan.shard_size)):
        part = Catalog(source.folder, images[start : start + plan.shard_size])
        if not shard_path(out, number).is_file():
            write_shard(out, number, _shard(model, part, info.plan))
        on_progress(start + len(part.images), len(images))
    if not (out / NEIGHBOURS).is_file():
        write_neighbours(out, _embedded(embedder, source))
    _write_thumbnails(source, out)
    _write_curvature(model, source, out, plan)
    manifest.write_manifest(out)
    return Index.open(out)


def _row(folder: Path, number: int, line: str) -> TrainingImage:
    where = f"“{folder.name}/metadata.jsonl” line {number}"
    try:
        fields = json.loads(line)
        file_name, text = str(fields["file_name"]), str(fields["text"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{where} needs a JSON object with file_name and text.") from error
    path = (folder / file_name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise InvalidRequest(f"{where} names “{file_name}”, which is not a file below the folder.")
    try:
        width, height = read_training_picture(path).size
    except UnreadablePicture as refusal:
        raise InvalidRequest(f"{where} names a picture that cannot be read: {refusal}") from refusal
    known = {key: str(fields.get(key) or "unknown") for key in ("creator", "licence", "source")}
    return TrainingImage(
        id=file_name, file_name=file_name, collection=folder.name, creator=known["creator"], licence=known["licence"],
        licence_url=str(fields.get("licence_url") or ""), source_package=known["source"], source_version="",
        source_file=file_name, source_url=str(fields.get("url") or ""), caption=text, subject=text, group="",
        subgroup="", tags="", width=width, height=height, sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        phash="", split=_split(fields, where), repeats=1,
    )  # fmt: skip


def _split(fields: dict[str, Any], where: str) -> str:
    split = str(fields.get("split") or "train")
    if split not in ("train", "held_out"):
        raise InvalidRequest(
            f"{where} has the split “{split}”; it must be train, or held_out for what was not trained on."
        )
    return split


def _info(model: PictureModel, source: Catalog, plan: BuildPlan, embedder: Embedder) -> IndexInfo:
    shape = _encoded(model, Catalog(source.folder, source.images[:1])).shape[1:]
    return IndexInfo(
        schema=SCHEMA,
        model=Path(model.spec.checkpoint).name,
        fingerprint=model.fingerprint,
        tunable=model.spec.tunable,
        draw_seed=plan.seed,
        draw_count=plan.draws,
        embedder=embedder.name,
        embedder_fingerprint=embedder.fingerprint,
        examples=len(source.images),
        shard_size=plan.shard_size,
        latent_shape=tuple(shape),
        version=__version__,
    )


def _begin(out: Path, info: IndexInfo) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if (out / "index.json").is_file() and read_info(out) != info:
        raise IndexMismatch(f"“{out.name}” holds an index made otherwise. Remove it, or name another folder.")
    write_info(out, info)


def _shard(model: PictureModel, part: Catalog, plan: DrawPlan) -> Shard:
    import torch

    from ..sweep.executors.threads import measured_by_batch
    from ..sweep.losses import losses_and_sizes

    ids = tuple(image.id for image in part.images)
    conditioning = model.encode_prompt([image.caption for image in part.images])
    batch = LatentBatch(ids, _encoded(model, part), conditioning)

    def measure(part: LatentBatch) -> Tensor:
        draws = plan.draws(part.example_ids, part.latents.shape[1:])
        return torch.stack(losses_and_sizes(model, part, draws), dim=1)  # [b 2 d]

    found = torch.cat([values for _, values in measured_by_batch(model, [batch], plan.count, measure)])
    losses, sizes = found.unbind(dim=1)
    return Shard(batch, losses, sizes)


def _encoded(model: PictureModel, part: Catalog) -> Tensor:
    """Latents `[n c h w]` in float16, as they are stored: every loss is taken from exactly these."""
    import torch

    def squares(images: Sequence[TrainingImage]) -> list[Image.Image]:
        return [to_square(picture, model.picture_size) for picture in _pictures(part.folder, images)]

    return torch.cat([model.encode_image(squares(images)).half().cpu() for images in _batches(part.images)])


def _embedded(embedder: Embedder, source: Catalog) -> Tensor:
    import torch

    return torch.cat([embedder.embed(list(_pictures(source.folder, images))) for images in _batches(source.images)])


def _batches(images: Sequence[TrainingImage]) -> Iterator[Sequence[TrainingImage]]:
    for start in range(0, len(images), ENCODE_BATCH):
        yield images[start : start + ENCODE_BATCH]


def _pictures(folder: Path, images: Sequence[TrainingImage]) -> Iterator[Image.Image]:
    for image in images:
        yield read_training_picture(folder / image.file_name)


def _write_thumbnails(source: Catalog, out: Path) -> None:
    """Thumbnails without metadata, and the catalog whose file names point to them."""
    (out / "thumbnails").mkdir(exist_ok=True)
    rows = []
    for number, image in enumerate(source.images):
        name = f"thumbnails/{number:06}.webp"
        small = read_training_picture(source.path_of(image))
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        small.save(out / name, lossless=True, method=4, exif=b"", xmp=b"", icc_profile=b"")
        rows.append(replace(image, file_name=name))
    Catalog(out, tuple(rows)).save()


def _write_curvature(model: PictureModel, source: Catalog, out: Path, plan: BuildPlan) -> None:
    from ..gradients.curvature import diagonal_fisher, kronecker_fisher

    trained = [image for image in source.images if image.split == "train"]
    chosen = random.Random(plan.seed).sample(trained, min(plan.fisher_images, len(trained)))
    batches = [_batch(model, source.folder, (image,)) for image in chosen]
    draws = DrawPlan(plan.seed + 1, plan.fisher_draws)
    if not (out / FISHER).is_file():
        write_fisher(out, diagonal_fisher(model, batches, draws))
    if plan.kronecker:
        write_kronecker(out, kronecker_fisher(model, batches, draws))


def _batch(model: PictureModel, folder: Path, images: tuple[TrainingImage, ...]) -> LatentBatch:
    ids = tuple(image.id for image in images)
    return LatentBatch(
        ids, _encoded(model, Catalog(folder, images)), model.encode_prompt([image.caption for image in images])
    )
