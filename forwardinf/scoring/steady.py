"""The score of `steady`, whole: errors by the mean of their changes, sizes only where an image exceeds its null.

Symbols as in score.py, but that errors are measured at all e draws and sizes at the last d of these too, K:

    (1)  s_ik = max(0, (c_ik − mean_j c_jk) / sd_j c_jk)            change of error, standardised over the images
    (2)  t_i  = mean_{k ∈ K} (c_ik − mean_j c_jk) / sd_j c_jK       change of size, c_jK its mean over K
    (3)  z_i  = (max(0, t_i) − μ_i) / (σ_i + 2 mean_j σ_j)          against its null distribution; without, z = t
    (4)  w_i  = (1 + max(0, (ρ_i − mean_j ρ_j) / sd_j ρ_j))^γ       weight by likeness ρ_i, γ = 1.5
    (5)  score_i = w_i mean_k s_ik + max(0, z_i − 2)²
    (6)  SE_i² = (sd_p w_i s_ip)² / p + (2 · 0.2 z_i max(0, z_i − 2))² / q

Of draws that are pairs of a noise and its negative, whose errors are not independent, p and q count pairs, and s_ip is
the mean of a pair; otherwise they count draws.

Errors are not held against a null: on the lab's choosing part that made no difference, and it is what a null mostly
costs. The square of a size whole costs accuracy there, that of its excess over 2 does not (docs/method.md).

An image may have been measured at the first draws only (attribution/race.py). Means over draws are then over those that
it has, means over images at a draw over those that were measured at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..types import InfluenceScores
from .null import NullDistribution
from .score import SIZE_NOISE, Changes

if TYPE_CHECKING:
    from torch import Tensor

EXPECTED = 2.0  # z-score of a size up to which it says nothing


@dataclass(frozen=True)
class SteadyChanges(Changes):
    """s of equation (1), then the terms of (2); not a number at draws at which an image was not measured."""

    paired: bool = False  # whether draws 2p and 2p + 1 are a pair

    def scored(self, null: NullDistribution | None) -> InfluenceScores:
        """By equations (3), (5) and (6); left out in turn are pairs, where draws are."""
        errors, sizes = self.per_draw.tensor_split((self.per_draw.shape[1] - self.size_draws,), dim=1)
        if self.likeness_weights is not None:
            errors = errors * self.likeness_weights[:, None]
        error_pairs, size_pairs = (_means(draws, 2 if self.paired else 1) for draws in (errors, sizes))

        def excess(size: Tensor) -> Tensor:
            t = size.clamp(min=0)
            z = t if null is None else null.z_scores(self.example_ids, t[:, None])[:, 0]
            return (z - EXPECTED).clamp(min=0)

        error, size = _mean(error_pairs), _mean(size_pairs)
        beyond = excess(size)
        without = [one + beyond.square() for one in _without_each(error_pairs, error)]
        without += [error + excess(one).square() for one in _without_each(size_pairs, size)]
        return InfluenceScores(
            self.example_ids,
            error + beyond.square(),
            _standard_errors(error_pairs, size_pairs, beyond),
            _shares(errors, sizes, beyond.square()),
            torch.stack(without, dim=1) if len(without) > 1 else None,
        )


def standardised_at(values: Tensor, measured: Tensor, stands_for: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each column of `[n d]` about its mean over the images that were measured at it, and its deviations `[d]`.

    `measured [n d]`; `stands_for [n d]` as in `standardised`. What was not measured is not a number; the deviation of
    a column with less than two images is 1.
    """
    shares = measured.float() if stands_for is None else stands_for * measured
    shares = shares / shares.sum(dim=0).clamp(min=1e-12)
    known = torch.where(measured, values, 0.0)
    about = known - (shares * known).sum(dim=0)
    deviations = (shares * about.square()).sum(dim=0).sqrt().clamp(min=1e-12)
    alone = measured.sum(dim=0) < 2
    deviations = torch.where(alone, 1.0, deviations)
    return torch.where(measured, torch.where(alone, known, about), float("nan")), deviations


def _means(draws: Tensor, size: int) -> Tensor:
    """Means of so many neighbouring columns each, `[n d]` to `[n d/size]`."""
    return draws.reshape(len(draws), draws.shape[1] // size, size).mean(dim=2)


def _mean(pairs: Tensor) -> Tensor:
    """Mean over the columns that each image has, `[n]`; 0 where it has none."""
    return pairs.nansum(dim=1) / pairs.isfinite().sum(dim=1).clamp(min=1)


def _without_each(pairs: Tensor, mean: Tensor) -> list[Tensor]:
    """The mean of the other columns, for each column; that of all where an image has not this column, or no other."""
    count, total = pairs.isfinite().sum(dim=1), pairs.nansum(dim=1)
    return [
        torch.where(column.isfinite() & (count > 1), (total - column) / (count - 1).clamp(min=1), mean)
        for column in pairs.unbind(dim=1)
    ]


def _standard_errors(error_pairs: Tensor, size_pairs: Tensor, beyond: Tensor) -> Tensor:
    """Equation (6), `[n]`; not a number where an image has a single pair."""
    count = error_pairs.isfinite().sum(dim=1)
    about = error_pairs - _mean(error_pairs)[:, None]
    variance = about.square().nansum(dim=1) / (count - 1).clamp(min=1) / count.clamp(min=1)
    of_errors = torch.where(count > 1, variance.sqrt(), float("nan"))
    of_sizes = 2 * SIZE_NOISE * (beyond + EXPECTED) * beyond / size_pairs.isfinite().sum(dim=1).clamp(min=1).sqrt()
    return torch.hypot(of_errors, of_sizes)


def _shares(errors: Tensor, sizes: Tensor, of_size: Tensor) -> Tensor:
    """What each draw contributes, `[n d]`, scaled so that the mean over those that an image has is its score."""
    by_error, by_size = (draws.isfinite().sum(dim=1, keepdim=True) for draws in (errors, sizes))
    draws = by_error + by_size
    mean = _mean(sizes)[:, None]
    of_each = torch.where(mean > 0, sizes / mean.clamp(min=1e-12), 0.0) * of_size[:, None]
    of_each = torch.where(sizes.isfinite(), of_each, float("nan"))
    return torch.cat([errors * (draws / by_error.clamp(min=1)), of_each * (draws / by_size.clamp(min=1))], dim=1)
