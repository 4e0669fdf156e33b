"""Which images are worth a forward, found without any: where to look first, and what may have been overlooked.

The size of the prediction at the noisiest draw is almost linear in a small move of the weights, so its change of every
image is one inner product with what the index kept (gradients/whitening.py). Held against each image's null
distribution as the score is, it orders all images. The first of these are weighed, and beside them the most similar
images, those with words of the prompt, and a random sample of the rest: the sample stands for them in means and
deviations over all images, and tells how many of them may belong among the first.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import torch

from ..errors import InvalidRequest
from ..examples.catalog import words_of
from ..methods.protocol import QueryState
from ..sweep.rounds import Measured
from ..sweep.table import Table
from .foresight import SizeChanges
from .tables import table_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..index.null_file import NullChanges, NullSizes
    from ..index.store import Index
    from ..types import InfluenceScores

LEAST_SHARE = 0.1  # of its uncalibrated share that a sampled image keeps at least
QUIET = 2  # stages that must bring none of the first images before these count as decided
TAIL = 0.1  # share of the sampled images, those with the highest scores, that tell how scores fall off


@dataclass(frozen=True)
class Effort:
    """How many training images are weighed before an answer is given; an image that is not weighed is not in it."""

    first: int = 10  # images that are to be decided
    at_once: int = 100  # likely images weighed before it is asked again whether the first are decided
    at_most: int = 600  # likely images weighed if they never are
    similar: int = 32  # images weighed for their embedding
    worded: int = 32  # images weighed for words that their caption shares with the prompt
    sample: int = 192  # images weighed to know what is usual
    seconds: float | None = None  # after which no further images are begun
    raced: int = 250  # likely images that a race begins with (race.py), for which at_once and at_most do not count
    raced_sample: int = 64  # images weighed in a race to know what is usual

    @classmethod
    def to_decide(cls, first: int, seconds: float | None = None) -> Effort:
        """What it takes to decide so many images; raises InvalidRequest for a number that is not above 0."""
        most = {"at_once": max(cls.at_once, first), "at_most": max(cls.at_most, 6 * first)}
        return cls(first, **most, raced=max(cls.raced, 4 * first), seconds=seconds)

    def __post_init__(self) -> None:
        """Raise InvalidRequest for an effort that could not decide anything."""
        if self.first < 1 or (self.seconds is not None and not self.seconds > 0):
            what, value = ("number of images", self.first) if self.first < 1 else ("time limit", self.seconds)
            raise InvalidRequest(f"The {what} is {value}; it must be above 0.")


@dataclass(frozen=True)
class Shortlist:
    """The training images in the order in which they are weighed, where not all are."""

    likely: tuple[str, ...]  # those that the move changes most, most first
    others: tuple[str, ...]  # similar images, and images with words of the prompt
    sample: tuple[str, ...]  # at even steps along the order of all images that are not weighed at once
    foreseen: dict[str, float]  # the change that is foreseen for each of these
    population: Tensor  # [p], for all training images, or for a random sample of them
    trained: int  # how many images the model was trained on
    effort: Effort

    @cached_property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The images that are weighed one stage after another; each but the first may be left out."""
        size = self.effort.at_once
        first = dict.fromkeys([*self.likely[:size], *self.others, *self.sample])
        parts = [self.likely[start : start + size] for start in range(size, len(self.likely), size)]
        return (tuple(first), *(tuple(i for i in part if i not in first) for part in parts))

    def stands_for(self, example_ids: Sequence[str], stages: int) -> Tensor:
        """Of how many training images each of those is an example after so many stages, `[b]`."""
        return shares_of(
            example_ids, self._is_sampled(example_ids, stages), self.foreseen, self.population, self.trained
        )

    def _is_sampled(self, example_ids: Sequence[str], stages: int) -> Tensor:
        """Which of these images stand for others after so many stages, `[b]` of bool."""
        chosen = {*self.likely[: self.effort.at_once * stages], *self.others}
        return torch.tensor([example_id not in chosen for example_id in example_ids], dtype=torch.bool)

    def is_decided(self, scores: InfluenceScores, stages: int) -> bool:
        """Whether the last two of so many stages, which are weighed, brought none of the first images."""
        size = self.effort.at_once
        latest = set(self.likely[size * (stages - QUIET) : size * stages])
        return stages > QUIET and latest.isdisjoint(example_id for example_id, *_ in scores.top(self.effort.first))

    def overlooked(self, scores: InfluenceScores, stages: int) -> float:
        """How many of the images that were not weighed are expected to belong among the first."""
        sampled = self.stands_for(scores.example_ids, stages) > 1
        return overlooked(scores, sampled, self.trained, self.effort.first)

    def table(self, index: Index, state: QueryState, results: tuple[Measured, ...], stages: int) -> Table:
        """What was measured in so many stages, of the images that these weigh."""
        part = index.part(chain(*self.stages[:stages]))
        stands_for = self.stands_for(part.visited, stages)
        return table_of(part, state, results, lambda _: stands_for)

    @classmethod
    def of(
        cls, foresight: SizeChanges, null: NullChanges | NullSizes | None, others: Iterable[str], effort: Effort
    ) -> Shortlist:
        """The training images whose foreseen change scores highest, these `others`, and a sample of the rest."""
        order, trained = foresight.order(null), foresight.index.trained
        rest = list(dict.fromkeys([*order, *sorted(trained)]))[effort.at_once :]
        sample = sample_of(rest, effort.sample)
        likely, others = tuple(order[: effort.at_most]), tuple(others)
        ids = tuple(dict.fromkeys([*likely, *others, *sample]))
        foreseen = dict(zip(ids, foresight.changes(ids).tolist(), strict=True))
        return cls(likely, others, sample, foreseen, foresight.population, len(trained), effort)


def sample_of(order: Sequence[str], count: int) -> tuple[str, ...]:
    """So many images at even steps along an order, whichever images that has, from a random start.

    So it has its share of those at each end (systematic sampling, Cochran 1977, chapter 8).
    """
    count, start = min(count, len(order)), random.Random(0).random()
    return tuple(order[int((start + i) * len(order) / count)] for i in range(count))


def shares_of(
    example_ids: Sequence[str], sampled: Tensor, foreseen: Mapping[str, float], population: Tensor, trained: int
) -> Tensor:
    """Of how many of so many training images each of these is an example, `[b]`; 1 but for the `sampled`.

    A sampled image stands for its share of all that were not chosen to be weighed; the shares are calibrated so that
    number, mean and mean square of the foreseen changes are those of the `population` (Deville & Särndal 1992, the
    linear method), unless that would leave one without any.
    """
    count, rest = int(sampled.sum()), trained - int((~sampled).sum())
    shares = torch.ones(len(example_ids), dtype=torch.float64)
    if not count:
        return shares.float()
    shares[sampled] = rest / count
    known = _moments(torch.tensor([foreseen[i] for i in example_ids]), population)  # [b 3]
    wanted = trained * _moments(population, population).mean(dim=0)
    missing = wanted - (shares[:, None] * known).sum(dim=0)
    by = known[sampled]
    factors = 1 + by @ torch.linalg.lstsq((shares[sampled][:, None] * by).T @ by, missing[:, None]).solution[:, 0]
    if bool((factors > LEAST_SHARE).all()):
        shares[sampled] *= factors
    return shares.float()


def overlooked(scores: InfluenceScores, sampled: Tensor, trained: int, first: int) -> float:
    """How many images without a score, of so many training images, are expected to belong among the first.

    The highest scores of the `sampled` images `[n]` are taken to fall off exponentially, and that is followed to the
    lowest score among the first: peaks over a threshold (Pickands 1975), with the shape of most tails, 0.
    """
    unseen = trained - len(scores.example_ids)
    reached = scores.scores[sampled].clamp(min=0).sort(descending=True).values
    if unseen <= 0 or len(reached) < 2:
        return 0.0
    lowest, tail = scores.top(first)[-1][1], max(1, round(TAIL * len(reached)))
    from_, excess = float(reached[tail]), float((reached[:tail] - reached[tail]).mean())
    beyond = max(0.0, lowest - from_)
    return unseen * tail / len(reached) * (math.exp(-beyond / excess) if excess > 0 else float(beyond <= 0))


def _moments(changes: Tensor, population: Tensor) -> Tensor:
    """1, x and x² of changes about the population's mean in its standard deviations, `[b 3]`."""
    x = ((changes - population.mean()) / population.std().clamp(min=1e-12)).double()
    return torch.stack([torch.ones_like(x), x, x.square()], dim=1)


def worded(index: Index, prompt: str, count: int) -> list[str]:
    """Training images whose captions share the rarest words with a prompt."""
    images, with_word = index.catalog.images, index.catalog.with_word
    weight: dict[str, float] = {}
    for word in sorted(set(words_of(prompt)).intersection(with_word)):
        numbers = with_word[word]
        for number in numbers:
            weight[images[number].id] = weight.get(images[number].id, 0.0) + 1 / len(numbers)
    best = sorted(weight, key=lambda example_id: (-weight[example_id], example_id))
    return [example_id for example_id in best if example_id in index.trained][:count]
