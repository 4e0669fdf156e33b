"""Fit the embedder `artwork`: which training image a disguised copy is of, and what it shows.

    forwardinf train embedder --out assets/artwork-embedder

Linear discriminant analysis (Fisher 1936; Rao 1948) of descriptors, twice: with each picture and its disguised copies
as a class, and with all artists' drawings of the same thing as one. Held-out pictures are not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..embedders.artwork import Discriminants
from ..embedders.descriptors import SIDE, describe
from ..examples.catalog import Catalog
from ..examples.decoding import to_square
from .disguises import disguised

DIRECTIONS = 128  # at most, of each analysis
AT_ONCE = 64  # pictures whose copies are held
RIDGE = 0.05  # of the mean variance, added to the variance within classes in every direction


def fit_embedder(
    artwork: Path,
    out: Path,
    copies: int = 4,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write discriminants of the training images of `artwork` to `out`; the same seed gives the same bytes."""
    catalog = Catalog.load(artwork).of_split("train")
    described: list[np.ndarray] = []
    centred: list[np.ndarray] = []
    within = np.zeros(())
    for number, image in enumerate(catalog.images):
        members = _described(to_square(catalog.picture(image), SIDE), copies, np.random.default_rng([seed, number]))
        described.append(members[0])
        centred.append(members - members.mean(axis=0))
        if len(centred) == AT_ONCE or number + 1 == len(catalog.images):
            rows = np.concatenate(centred)
            centred, within = [], within + rows.T @ rows
        on_progress(number + 1, len(catalog.images))
    x = np.stack(described)
    within, between = within / (len(x) * (1 + copies)), _scatter(x) / len(x)  # covariances [n n]
    subjects = [image.subject for image in catalog.images]
    most = min(DIRECTIONS, len(x) - 1)  # more directions than pictures would hold nothing between them
    likeness = discriminant_directions(within, between, most)
    meaning = discriminant_directions(_within(x, subjects) + within, between, most)
    return Discriminants(x.mean(axis=0), likeness, meaning).save(out)


def _described(picture: Image.Image, copies: int, random: np.random.Generator) -> np.ndarray:
    """Descriptors `[1+copies n]` of a picture and disguised copies of it, in float64."""
    members = [picture, *(disguised(picture, random) for _ in range(copies))]
    return describe(np.stack([np.asarray(member) for member in members])).astype(np.float64)


def discriminant_directions(within: np.ndarray, between: np.ndarray, most: int) -> np.ndarray:
    """The directions `[n f]` of most variance between classes beside that within, of covariances `[n n]`."""
    n = len(within)
    values, vectors = np.linalg.eigh(within + RIDGE * np.trace(within) / n * np.eye(n))
    whitening = vectors / np.sqrt(values)
    _, directions = np.linalg.eigh(whitening.T @ between @ whitening)  # ascending
    return whitening @ directions[:, ::-1][:, :most]


def _within(x: np.ndarray, classes: list[str]) -> np.ndarray:
    """Covariance within classes of more than one member."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(classes):
        rows.setdefault(name, []).append(row)
    shared = [x[members] for members in rows.values() if len(members) > 1]
    freedom = sum(len(members) - 1 for members in shared)
    return sum((_scatter(members) for members in shared), np.zeros((x.shape[1],) * 2)) / max(1, freedom)


def _scatter(x: np.ndarray) -> np.ndarray:
    """Sum of squares and products about the mean, `[n n]`."""
    centred = x - x.mean(axis=0)
    return centred.T @ centred
