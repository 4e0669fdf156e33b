"""An index before anything is measured: its images in order and in shards, and all that it follows from."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from .. import __version__
from ..errors import InvalidRequest
from ..examples.catalog import Catalog, TrainingImage
from ..examples.fit import BUCKET
from .info import SCHEMA, IndexInfo, sizes_of

if TYPE_CHECKING:
    from ..embedders.protocol import Embedder
    from ..models.protocol import PictureModel
    from .build import BuildPlan


def planned(model: PictureModel, source: Catalog, plan: BuildPlan, embedder: Embedder) -> tuple[Catalog, IndexInfo]:
    """The images to index in the order of their rows, and all that the index follows from.

    Raises InvalidRequest where there is nothing to index.
    """
    images = tuple(image for image in source.images if image.split in plan.splits)
    if not any(image.split == "train" for image in images):
        raise InvalidRequest(f"“{source.folder.name}” has no image of the split train, so there is nothing to index.")
    images, shards = in_shards(images, model, plan.shard_size)
    source = replace(source, images=images)
    return source, IndexInfo(
        schema=SCHEMA,
        model=model.spec.name,
        fingerprint=model.fingerprint,
        sources=source.sources,
        tunable=model.spec.tunable,
        draw_seed=plan.seed,
        draw_count=plan.draws,
        antithetic=plan.antithetic,
        method=plan.method,
        fisher_images=plan.fisher_images,
        fisher_draws=plan.fisher_draws,
        embedder=embedder.name,
        embedder_fingerprint=embedder.fingerprint,
        examples=len(source.images),
        shard_size=plan.shard_size,
        version=__version__,
        dtype=model.spec.dtype,
        skipped=source.skipped,
        fit=model.spec.fit or IndexInfo.fit,
        flip=model.spec.flip,
        shards=shards,
        picture_size=model.spec.picture_size,
    )


def in_shards(
    images: tuple[TrainingImage, ...], model: PictureModel, shard_size: int
) -> tuple[tuple[TrainingImage, ...], tuple[int, ...]]:
    """The images in their order, and the sizes of shards where these follow shapes: a shard has one shape."""
    if model.spec.fit != BUCKET:
        return images, ()
    groups = model.fit.by_shape(images, lambda image: (image.width, image.height))
    sizes = chain.from_iterable(sizes_of(len(group), shard_size) for group in groups)
    return tuple(chain.from_iterable(groups)), tuple(sizes)
