"""How sure an answer is: which images stand out, and how steady their ranks are.

An image stands out where its score lies above nearly every score that pictures reach which owe the training set
nothing. Of each such null picture only its highest score over all images counts, because the image in question is
itself the best of as many: compared with single held-out images, the best of some thousand images would stand out in
every answer, whatever the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..types import InfluenceScores
from .null import FEWEST_FOR_Z_SCORES, NullDistribution
from .score import Changes, score

if TYPE_CHECKING:
    from torch import Tensor

RATE = 0.10  # bound on the chance that an answer names any image falsely, and so on the false-discovery rate
FEWEST_FOR_VERDICT = 9  # null pictures with which an image can have a p-value of RATE: 1 / (1 + 9)


@dataclass(frozen=True)
class Confidence:
    """How sure the scores of an answer are, image by image."""

    p_values: Tensor | None  # [n]; None where there is no null distribution for the method and its settings
    rank_ranges: Tensor  # [n 2], best and worst
    null_scores: Tensor | None = None  # [m], the highest score under each null picture, ascending

    @classmethod
    def of(cls, scores: InfluenceScores, null_scores: Tensor | None) -> Confidence:
        """From the highest score under each null picture, `[m]`, where these are known."""
        p = None if null_scores is None else p_values(scores.scores, null_scores)
        return cls(p, rank_ranges(scores), None if null_scores is None else null_scores.sort().values)

    @property
    def null_pictures(self) -> int:
        """With how many pictures the answer was compared."""
        return 0 if self.null_scores is None else len(self.null_scores)

    @property
    def threshold(self) -> float | None:
        """The score that an image has to exceed to stand out; None where there are too few null pictures."""
        if self.null_scores is None or self.null_pictures < FEWEST_FOR_VERDICT:
            return None
        as_high = math.floor(RATE * (1 + self.null_pictures) + 1e-9) - 1  # null pictures that may score as high
        return float(self.null_scores[self.null_pictures - as_high - 1])

    @property
    def stands_out(self) -> Tensor | None:
        """Whether each image stands out at the nominal rate, `[n]`; None where there are too few null pictures."""
        return None if self.p_values is None or self.null_pictures < FEWEST_FOR_VERDICT else self.p_values <= RATE

    @property
    def number_standing_out(self) -> int | None:
        """How many images stand out; None as for `stands_out`."""
        return None if self.stands_out is None else int(self.stands_out.sum())


def highest(null: Sequence[Changes], among: Tensor, queries: Sequence[Changes] | None = None) -> Tensor:
    """The highest score under each null picture, `[m]`, over the images of the mask `among` `[n]`.

    Each picture's changes are held against the null distribution of the other pictures, where there are enough of
    them: one picture fewer than a query is held against, so these scores spread a little more, which errs towards no
    image standing out. `queries` are the same pictures measured otherwise (without their captions), to be scored
    against the same distributions.
    """
    changes = torch.stack([found.per_draw for found in null])
    reached = []
    for number, found in enumerate(null if queries is None else queries):
        others = torch.cat([changes[:number], changes[number + 1 :]])
        distribution = NullDistribution.of(found.example_ids, others) if len(null) >= FEWEST_FOR_Z_SCORES else None
        reached.append(score(found, distribution).scores[among].max())
    return torch.stack(reached)


def p_values(scores: Tensor, null_scores: Tensor) -> Tensor:
    """How often a picture that owes the training set nothing has an image with as high a score: conformal, `[n]`.

    (1 + #{null ≥ score}) / (1 + m) in float64, from `scores [n]` and the highest score of each of m null pictures,
    `null_scores [m]` (Vovk et al. 2005, chapter 2; the maximum over all images as in Westfall & Young 1993). The
    p-values hold for all images of an answer together: where nothing shaped the picture, the chance that any image has
    p ≤ α is at most α, if the picture is exchangeable with the null pictures. Images with p ≤ α stand out,
    so the family-wise error, and with it the false-discovery rate, is at most α (apart from `highest` holding each null
    picture against one picture fewer than a query).
    """
    ordered = null_scores.sort().values
    as_high = len(ordered) - torch.searchsorted(ordered, scores, side="left")
    # In float32 a p-value of exactly RATE would compare as larger than RATE.
    return (1 + as_high).double() / (1 + len(ordered))


def rank_ranges(scores: InfluenceScores) -> Tensor:
    """The best and the worst rank of each image, as scored and with any one draw left out, `[n 2]`.

    Each draw is another noise in another part of the schedule, so a rank that depends on one of them may differ under
    other noise. The range says what an answer rests on, not where the rank would lie with other noise altogether:
    about half of those lie in it (`study steadiness`). With a single draw nothing can be left out: the rank, twice.
    Ties keep the order of the images.
    """
    columns = [scores.scores[:, None]] if scores.left_out is None else [scores.scores[:, None], scores.left_out]
    order = torch.cat(columns, dim=1).argsort(dim=0, descending=True, stable=True)
    ranks = torch.empty_like(order)
    ranks.scatter_(0, order, torch.arange(1, len(order) + 1)[:, None].expand_as(order))
    return torch.stack([ranks.min(dim=1).values, ranks.max(dim=1).values], dim=1)
