"""Scores of the lab's training images for its queries, from which every study on the lab starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import __version__
from ..attribution.attributor import Attributor
from ..attribution.planning import plan_for
from ..examples.catalog import Catalog
from ..files.identity import digest_of
from ..files.rows import RowCache
from ..index.build import build_index
from ..methods.protocol import AttributionMethod, settings_of
from ..models.protocol import PictureModel
from .ground_truth import GroundTruth
from .settings import effective, settings_on


def attributor_of(
    truth: GroundTruth,
    tunable: str,
    work: Path,
    method: AttributionMethod,
    draws: int | None = None,
    seed: int = 0,
) -> Attributor:
    """The lab's full model with an index of its images and some that it has never seen, built in `work` if needed."""
    images = (*truth.images.images, *truth.unseen.images)
    return indexed(truth.model(tunable), Catalog(truth.artwork.folder, images), work, draws, method, seed)


def indexed(
    model: PictureModel,
    pictures: Catalog,
    work: Path,
    draws: int | None,
    method: AttributionMethod,
    seed: int = 0,
) -> Attributor:
    """A study's model with an index of `pictures` that has what `method` needs, built in `work` unless it is there.

    At so many `draws` an image, by default as many as an index for the method has.
    """
    images = tuple(sorted(pictures.images, key=lambda image: image.id))
    kronecker = settings_of(method).get("curvature") == "kronecker"
    plan = plan_for(method, draws, seed=seed, kronecker=kronecker)
    decisive = [model.fingerprint, model.spec.tunable, plan.draws, [image.id for image in images], __version__]
    decisive += ["kronecker"] * kronecker + [seed] * (seed > 0) + ["antithetic"] * plan.antithetic
    folder = work / f"index-{digest_of(decisive, 12)}"
    index = build_index(model, replace(pictures, images=images), folder, plan)
    return Attributor(model, index, cache=work / "cache")


def scores_of(
    numbers: Sequence[int],
    truth: GroundTruth,
    attributor: Attributor,
    method: AttributionMethod,
    work: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Scores `[queries images]` for the queries of these numbers, the images in the order of the lab's plan.

    Scores in `work` are taken from there, the others are computed and stored there.
    """
    settings = settings_on(attributor, method)
    name = digest_of(effective(settings), 16)
    path = work / "scores" / f"{settings['method']['name']}-{name}.npy"
    rows = RowCache.open(path, len(truth.plan.queries), len(truth.plan.images))
    for done, number in enumerate(numbers):
        on_progress(done, len(numbers))
        if rows.get(number) is None:
            scores = attributor.attribute(truth.picture(number), truth.plan.queries[number].caption, method)
            column = {example_id: i for i, example_id in enumerate(scores.example_ids)}
            rows.put(number, scores.scores[[column[image] for image in truth.plan.images]].numpy())
    on_progress(len(numbers), len(numbers))
    return np.stack([np.array(rows.rows[number]) for number in numbers])
