"""Do images behave as trained on? Their errors beside those of pictures of the same kind that were held out.

A model's error on an image that it was trained on is lower than on one that it never saw (Yeom et al. 2018); how much
lower differs from image to image by more than training does. What an adapter took away from an image's error leaves
most of that out, as the same image without the adapter is what it is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor

Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal
FEWEST = 5  # images of either kind, below which an interval says nothing


@dataclass(frozen=True)
class Errors:
    """Denoising losses of images, at the same draws."""

    with_adapter: Tensor  # [n d]; of a model without an adapter, as it is
    without: Tensor | None = None  # [n d]; None for a model without an adapter


@dataclass(frozen=True)
class Separation:
    """How surely a number tells images trained on from held-out ones."""

    auc: float  # chance that it is higher for a random image trained on than for a random held-out one
    low: float  # 95 % interval
    high: float
    p_value: float  # two-sided, of numbers as far apart where both kinds are alike


@dataclass(frozen=True)
class Membership:
    """Images trained on, as is said, beside held-out ones."""

    trained: int
    held_out: int
    learned: Separation | None  # by the share of the error that the adapter took away; None without an adapter
    lower: Separation  # by how low the error is
    lower_without: Separation | None  # by how low it is without the adapter: how alike both kinds are without it

    @property
    def decisive(self) -> Separation:
        return self.learned or self.lower


def membership(trained: Errors, held_out: Errors) -> Membership:
    """Compare both kinds; raises InvalidRequest where either has fewer than FEWEST images."""
    counts = len(trained.with_adapter), len(held_out.with_adapter)
    if min(counts) < FEWEST:
        raise InvalidRequest(
            f"There are {counts[0]} images trained on and {counts[1]} held out; to compare them takes {FEWEST} of each."
        )
    lower = separation(-trained.with_adapter.mean(dim=1), -held_out.with_adapter.mean(dim=1))
    if trained.without is None or held_out.without is None:
        return Membership(*counts, None, lower, None)
    learned = separation(
        _taken_away(trained.with_adapter, trained.without), _taken_away(held_out.with_adapter, held_out.without)
    )
    return Membership(*counts, learned, lower, separation(-trained.without.mean(dim=1), -held_out.without.mean(dim=1)))


def _taken_away(with_adapter: Tensor, without: Tensor) -> Tensor:
    """`[n]`: the mean over draws of the logarithm of both errors' ratio, so that no draw outweighs the others."""
    return (without.double().log() - with_adapter.double().log()).mean(dim=1)


def separation(trained: Tensor, held_out: Tensor) -> Separation:
    """How far numbers `[m]` and `[n]` lie apart: Mann and Whitney's U, and Newcombe's interval of U / mn.

    The interval (Newcombe 2006, Statistics in Medicine 25:559, method 5) holds for few images and where all of one kind
    are above all of the other, for which DeLong's has no width.
    """
    from scipy.stats import mannwhitneyu  # takes more than a second to import

    m, n = len(trained), len(held_out)
    tested = mannwhitneyu(trained.double().numpy(), held_out.double().numpy())
    auc = float(tested.statistic) / (m * n)
    return Separation(auc, 1 - _highest(1 - auc, m, n), _highest(auc, m, n), float(tested.pvalue))


def _highest(auc: float, m: int, n: int) -> float:
    """The highest value that `auc` is no more than 1.96 standard errors below, by bisection."""
    low, high = auc, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if middle - auc > Z_95 * _variance(middle, m, n) ** 0.5:
            high = middle
        else:
            low = middle
    return high


def _variance(auc: float, m: int, n: int) -> float:
    """Of an observed AUC, as Hanley and McNeil (1982) have it, with the mean of m and n for either."""
    more = (m + n) / 2 - 1
    return auc * (1 - auc) * (1 + more * (1 - auc) / (2 - auc) + more * auc / (1 + auc)) / (m * n)
