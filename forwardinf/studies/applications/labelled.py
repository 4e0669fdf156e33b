"""Small labelled pictures that come with packages or with this one, so that nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import avg_pool2d

from ...config import ASSETS
from ...errors import MissingAsset
from ...examples.catalog import Catalog
from ...models.classifier import Classifier, LabelledExample
from ...training.pictures import MODEL_SIZE, load_pictures
from ...types import LatentBatch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Labelled:
    """Pictures and the numbers of their classes."""

    pictures: Tensor  # [n c h w] in float32, from −0.5 to 0.5
    labels: Tensor  # [n]

    @property
    def count(self) -> int:
        return len(self.labels)

    def at(self, rows: Tensor) -> Labelled:
        return Labelled(self.pictures[rows], self.labels[rows])

    def part(self, start: int, stop: int) -> Labelled:
        return Labelled(self.pictures[start:stop], self.labels[start:stop])

    def with_those(self, others: Labelled) -> Labelled:
        return Labelled(torch.cat([self.pictures, others.pictures]), torch.cat([self.labels, others.labels]))

    def shuffled(self, seed: int) -> Labelled:
        return self.at(torch.randperm(self.count, generator=torch.Generator().manual_seed(seed)))


def digits() -> Labelled:
    """Scikit-learn's: 1,797 of 8 × 8 pixels in ten classes (Alpaydin and Kaynak 1998, UCI, CC BY 4.0).

    Raises MissingAsset where scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingAsset(
            "These studies need scikit-learn, which is not installed. Run: pip install scikit-learn"
        ) from error
    whole = load_digits()
    return Labelled(torch.tensor(whole.images / 16 - 0.5, dtype=torch.float32)[:, None], torch.tensor(whole.target))


def artwork(side: int) -> Labelled:
    """The shipped training images, of `side` pixels, by the Unicode group that they are in."""
    catalog = Catalog.load(ASSETS / "emoji").of_split("train")
    pictures = avg_pool2d(load_pictures(catalog).float() / 255 - 0.5, MODEL_SIZE // side)
    groups = sorted({image.group for image in catalog.images})
    return Labelled(pictures, torch.tensor([groups.index(image.group) for image in catalog.images]))


def encoded(model: Classifier, examples: Labelled) -> LatentBatch:
    """Examples as a classifier sees them; their ids are their places."""
    rows = zip(examples.pictures, examples.labels.tolist(), strict=True)
    return model.encode([LabelledExample(str(place), values, label) for place, (values, label) in enumerate(rows)])


def mislabelled(labels: Tensor, rows: Tensor, stream: torch.Generator) -> Tensor:
    """`labels` with those in `rows` replaced by another class each, all others alike."""
    changed, classes = labels.clone(), int(labels.max()) + 1
    changed[rows] = (changed[rows] + 1 + torch.randint(0, classes - 1, (len(rows),), generator=stream)) % classes
    return changed
