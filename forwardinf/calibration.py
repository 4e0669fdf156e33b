"""How sure an answer is: which images stand out, how steady their ranks are, and which groups rank higher than chance.

Everything is compared with a reference: pictures that the model never saw and that look like no training image, each
asked like any query, once, when the index is built. They say two things.

What is usual for an image: some images move whenever the model is touched at all, others hardly ever do. So what it
scores at each draw counts by how far it lies beyond the image's own habit at that draw, under the reference.

What is usual for an answer: an image stands out where its score lies above nearly all that the reference reaches. What
counts of each reference picture is its highest score over all training images, because the image in question is itself
the best of as many: a comparison with single held-out images would call the best of some thousand images in every
answer, whatever the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from .types import InfluenceScores

if TYPE_CHECKING:
    from torch import Tensor

RATE = 0.10  # nominal false-discovery rate of the verdict
ENOUGH = 9  # reference pictures under which an image can have a p-value of RATE: 1 / (1 + 9)
SHARED = 2  # times the average image's spread that are added to each; less finds more, more adds up better (LDS)
SMALL, PERMUTATIONS = 10, 100_000  # images of a group that is compared with so many random ones
FEWEST = 3  # reference pictures that tell a habit: without any one of them a spread is still defined


@dataclass(frozen=True)
class Habit:
    """How images score under pictures that owe them nothing: each image's own null."""

    positions: dict[str, int]  # of example ids in what follows
    mean: Tensor  # [n d]
    spread: Tensor  # [n d]

    @classmethod
    def of(cls, example_ids: Sequence[str], reference: Tensor) -> Habit:
        """The habit that scores `[b n d]` under b ≥ 2 reference pictures show.

        Few pictures tell a spread badly, and an image that hardly moved under any of them must not stand out because it
        now moved a little: so `SHARED` times the average image's spread is added to each.
        """
        own = reference.std(dim=0)
        positions = {example_id: i for i, example_id in enumerate(example_ids)}
        return cls(positions, reference.mean(dim=0), own + SHARED * own.mean(dim=0))

    def beyond(self, scores: InfluenceScores) -> InfluenceScores:
        """By how many spreads each image is beyond its habit; one that is not has 0, and by how much in `per_draw`."""
        rows = [self.positions[example_id] for example_id in scores.example_ids]
        known = slice(scores.per_draw.shape[1])  # of the draws, those that have been asked so far
        moved = (scores.per_draw - self.mean[rows, known]) / self.spread[rows, known]
        found = InfluenceScores.over(scores.example_ids, moved, scores.weights, scores.sized)
        return replace(found, scores=found.scores.clamp(min=0))


def highest(reference: Tensor, weights: Tensor, among: Tensor, asked: Tensor | None = None, sized: int = 0) -> Tensor:
    """The highest score under each reference picture, `[b]`.

    From their scores at each draw `[b n d]`, the last `sized` draws of sizes, what these are multiplied by `[b n]`, and
    a mask `[n]` of what counts; or from the scores that the same pictures have when they are `asked` otherwise, with
    the weights of these. Beyond the habit that the other reference pictures show, where there are enough for one. It
    rests on one picture fewer than the habit a query is held against, so these spread a little more, which errs on the
    side of not calling.
    """
    ids = tuple(map(str, range(reference.shape[1])))
    reached = []
    for number, (per_draw, weight) in enumerate(zip(reference if asked is None else asked, weights, strict=True)):
        scores = InfluenceScores.over(ids, per_draw, weight, sized)
        if len(reference) >= FEWEST:
            others = torch.cat([reference[:number], reference[number + 1 :]])
            scores = Habit.of(ids, others).beyond(scores)
        reached.append(scores.weighted().scores[among].max())
    return torch.stack(reached)


@dataclass(frozen=True)
class Confidence:
    """How sure the scores of an answer are, image by image."""

    p_values: Tensor | None  # [n]; None where there is no reference for the method and its settings
    reference_queries: int
    rank_ranges: Tensor  # [n 2]

    @property
    def stand_out(self) -> int | None:
        """How many images stand out at the nominal rate; None where so few reference pictures cannot tell."""
        return None if self.standing_out is None else int(self.standing_out.sum())

    @property
    def standing_out(self) -> Tensor | None:
        """Which images do, `[n]`; None as for `stand_out`."""
        return None if self.p_values is None or self.reference_queries < ENOUGH else self.p_values <= RATE


def p_values(scores: Tensor, highest: Tensor) -> Tensor:
    """How often a picture that the model never saw has an image with as high a score: conformal p-values `[n]`.

    (1 + #{reference ≥ score}) / (1 + b) in float64, from `scores [n]` and the highest score of each of b reference
    queries, `highest [b]` (Vovk et al. 2005, chapter 2; the maximum over all images as in Westfall & Young 1993). They
    hold for all images of an answer together: where nothing shaped the picture, the chance that any image has p ≤ α is
    at most α, if the picture is exchangeable with the reference. So calling those with p ≤ α keeps the family-wise
    error, and with it the false-discovery rate, at α.
    """
    ordered = highest.sort().values
    as_high = len(ordered) - torch.searchsorted(ordered, scores, side="left")
    # In float32 a p-value of just RATE would lie above it for whoever compares the two as Python's numbers.
    return (1 + as_high).double() / (1 + len(ordered))


def rank_ranges(scores: InfluenceScores) -> Tensor:
    """The best and the worst rank of each image, as it is and with any one draw left out, `[n 2]`.

    Each draw is another noise in another part of the schedule, so a rank that leans on one of them need not come again
    with other noise. The range says what an answer rests on, not where the rank would be with other noise altogether:
    of those about half lie in it (`study steadiness`). With a single draw nothing can be left out: the rank, twice.
    """
    columns = [scores.scores[:, None]] if scores.left_out is None else [scores.scores[:, None], scores.left_out]
    order = torch.cat(columns, dim=1).argsort(dim=0, descending=True, stable=True)
    ranks = torch.empty_like(order)
    ranks.scatter_(0, order, torch.arange(1, len(order) + 1)[:, None].expand_as(order))
    return torch.stack([ranks.min(dim=1).values, ranks.max(dim=1).values], dim=1)


@dataclass(frozen=True)
class Group:
    """Images that share a creator, a collection or a licence, and where they rank as a whole."""

    name: str
    images: int
    mean_rank: float
    p_value: float  # adjusted for the number of groups that were tested


def ranked_groups(scores: Tensor, names: Sequence[str]) -> list[Group]:
    """Each group's mean rank with the chance of one as good under random group membership, best first.

    `scores [n]`, and the name of each image's group. The permutation distribution of a group's mean rank is that of the
    rank-sum test (Mann & Whitney 1947), one-sided; of a large group its normal limit is taken, of a small one, for
    which that is far off in the tails, sets of as many images drawn at random. p-values are adjusted by Holm (1979)
    over all groups. Images that tie, as those with no influence do, share their mean rank. Scores are not summed: sums
    of single-image scores are not a group's influence.
    """
    from scipy.stats import mannwhitneyu, rankdata  # takes more than a second, which the app's start would wait for

    values, labels = scores.double().numpy(), np.asarray(names)
    ranks = rankdata(-values)
    found = []
    by_chance: dict[int, np.ndarray] = {}  # sums of ranks, by the number of images
    for name in sorted(set(names)):
        inside = labels == name
        size = int(inside.sum())
        p = 1.0
        if SMALL < size < len(labels):
            p = float(mannwhitneyu(values[inside], values[~inside], alternative="greater").pvalue)
        elif size < len(labels):
            if size not in by_chance:
                by_chance[size] = _rank_sums(ranks, size)
            p = float((1 + (by_chance[size] <= ranks[inside].sum()).sum()) / (1 + len(by_chance[size])))
        found.append((p, float(ranks[inside].mean()), name, size))
    found.sort()
    adjusted, least = [], 0.0
    for tested, (p, rank, name, count) in enumerate(found):
        least = min(1.0, max(least, p * (len(found) - tested)))
        adjusted.append(Group(name, count, rank, least))
    return sorted(adjusted, key=lambda group: (group.p_value, group.mean_rank, group.name))


def _rank_sums(ranks: np.ndarray, size: int) -> np.ndarray:
    """Sums of the ranks of random sets of `size` images, the same for the same ranks."""
    drawn = np.sort(np.random.default_rng(0).integers(0, len(ranks), (PERMUTATIONS, size)), axis=1)
    distinct = (np.diff(drawn, axis=1) > 0).all(axis=1)  # a set that would hold an image twice is none
    sums: np.ndarray = ranks[drawn[distinct]].sum(axis=1)
    return sums
