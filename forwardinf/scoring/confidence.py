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
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..types import InfluenceScores

if TYPE_CHECKING:
    from torch import Tensor

RATE = 0.10  # nominal false-discovery rate of the verdict
ENOUGH = 9  # reference pictures under which an image can have a p-value of RATE: 1 / (1 + 9)


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


def threshold(highest: Sequence[float]) -> float | None:
    """The score above which an image stands out, given the highest score of each null picture.

    The largest score whose p-value would still exceed `RATE`; None where there are too few pictures for any to stand
    out.
    """
    as_high = sum((1 + count) / (1 + len(highest)) <= RATE for count in range(len(highest) + 1))
    return sorted(highest, reverse=True)[as_high - 1] if as_high else None
