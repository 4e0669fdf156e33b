"""Which creators, collections or licences rank higher than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 10  # images of a group, or outside it, up to which random groups take the place of the normal limit
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
    rank-sum test (Mann & Whitney 1947), one-sided: its normal limit, corrected for ties and for continuity. Where the
    group or what is left beside it has few images, for which the limit is far off in the tails, sets of as many images
    are drawn at random instead. p-values are adjusted by Holm (1979) over all groups. Images that tie, as those with no
    influence do, share their mean rank. Scores are not summed: sums of single-image scores are not a group's influence.
    """
    from scipy.stats import rankdata  # takes more than a second, which the app's start would wait for

    ranks = rankdata(-scores.double().numpy())
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    members = np.fromiter((number[name] for name in names), np.int64, len(names))
    sizes = np.bincount(members)
    sums = np.bincount(members, weights=ranks)
    p_values = _chances(ranks, sizes, sums)
    found = sorted(zip(p_values.tolist(), (sums / sizes).tolist(), number, sizes.tolist(), strict=True))
    adjusted, least = [], 0.0
    for tested, (p, rank, name, count) in enumerate(found):
        least = min(1.0, max(least, p * (len(found) - tested)))
        adjusted.append(Group(name, count, rank, least))
    return sorted(adjusted, key=lambda group: (group.p_value, group.mean_rank, group.name))


def _chances(ranks: np.ndarray, sizes: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """The chance of a sum of ranks as low in a random group of the same size, for each group."""
    chances = _normal_chances(ranks, sizes, sums)
    chances[sizes == len(ranks)] = 1.0
    by_chance: dict[int, np.ndarray] = {}  # ascending sums of ranks, by the number of images drawn
    for group in np.flatnonzero(np.minimum(sizes, len(ranks) - sizes) <= SMALL):
        size, others = int(sizes[group]), len(ranks) - int(sizes[group])
        drawn = min(size, others)
        if not others:
            continue
        if drawn not in by_chance:
            by_chance[drawn] = _rank_sums(ranks, drawn)
        random = by_chance[drawn]
        if drawn == size:
            as_low = np.searchsorted(random, sums[group], side="right")
        else:  # the group is what the random set leaves over
            as_low = len(random) - np.searchsorted(random, ranks.sum() - sums[group], side="left")
        chances[group] = (1 + as_low) / (1 + len(random))
    return chances


def _normal_chances(ranks: np.ndarray, sizes: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """The normal limit of the rank-sum test (Lehmann 1975, section 1.4), with the correction for continuity."""
    from scipy.special import ndtr

    count = len(ranks)
    ties = np.unique(ranks, return_counts=True)[1].astype(float)
    squared = count + 1 - (ties**3 - ties).sum() / (count * max(1, count - 1))
    deviation = np.sqrt(sizes * (count - sizes) * squared / 12)
    below = sizes * (count + 1) / 2 - sums - 0.5
    chances: np.ndarray = ndtr(-below / np.maximum(deviation, 1e-12))
    return chances


def _rank_sums(ranks: np.ndarray, size: int) -> np.ndarray:
    """Sums of the ranks of random sets of `size` images, ascending, the same for the same ranks."""
    drawn = np.sort(np.random.default_rng(0).integers(0, len(ranks), (PERMUTATIONS, size)), axis=1)
    distinct = (np.diff(drawn, axis=1) > 0).all(axis=1)  # a set that would hold an image twice is none
    return np.sort(ranks[drawn[distinct]].sum(axis=1))


def outranked(images: int, mean_rank: float, of: int) -> float:
    """How often an image of a group ranks above an image outside it, over all such pairs: 0.5 by chance.

    The common-language effect size (McGraw & Wong 1992), (1 + rank-biserial correlation) / 2, of a group of so many
    `images` among `of`; a tie counts half. 0.5 where the group is everything.
    """
    others = of - images
    return 0.5 if not others else 1 - (mean_rank - (images + 1) / 2) / others
