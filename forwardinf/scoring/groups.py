"""Which creators, collections or licences rank higher than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 10  # images of a group up to which random groups take the place of the normal limit
PERMUTATIONS = 100_000  # random groups drawn; those that would hold an image twice are dropped


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


def outranked(images: int, mean_rank: float, of: int) -> float:
    """How often an image of a group ranks above an image outside it, over all such pairs: 0.5 by chance.

    The common-language effect size (McGraw & Wong 1992), (1 + rank-biserial correlation) / 2, of a group of so many
    `images` among `of`; a tie counts half. 0.5 where the group is everything.
    """
    others = of - images
    return 0.5 if not others else 1 - (mean_rank - (images + 1) / 2) / others
