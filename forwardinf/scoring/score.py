"""The score of Forward-INF, whole: from losses before and after the move to one number per training image.

Symbols, as in docs/method.md: indexed image i of n (held-out ones included); draw k of d, of which the first e measure
the error of the prediction, L_ik = its denoising loss, and the last d − e its size, L_ik = the mean square of the
prediction. L′ is the same under the weights that were moved for the query. mean_j and sd_j are mean and standard
deviation over the images j, mean_k and sd_k those over draws.

    (1)  c_ik = √L′_ik − √L_ik                              change; the root, as ∇L = 2 √L ∇√L grows with the error √L
    (2)  s_ik = max(0, (c_ik − mean_j c_jk) / sd_j c_jk)    standardised over the images, and one-sided
    (3)  z_ik = (s_ik − μ_ik) / (σ_ik + 2 mean_j σ_jk)      z-score against the image's null distribution (null.py),
                                                            mean μ, standard deviation σ; without one, z = s
    (4)  w_i  = 1 + max(0, (ρ_i − mean_j ρ_j) / sd_j ρ_j)   weight by likeness ρ_i: cosine of centred latents with the
                                                            query's
    (5)  score_i = max(0, mean_{k ≤ e} w_i z_ik) + max(0, mean_{k > e} z_ik)²
    (6)  SE_i² = (sd_{k ≤ e} w_i z_ik)² / e + (2 · 0.2 max(0, mean_{k > e} z_ik)²)² / (d − e)    its standard error

Why sizes, and why squared: an image that the model knows by heart has hardly any error left to change, but what the
model predicts for it still moves (as D-TRAK differentiates it, Zheng et al. 2024, arXiv 2311.00500). The square
separates images far outside their null distribution from those a little outside it. Likeness is what is known before
anything is measured; it multiplies, so that an image that did not move scores 0 however alike it looks.

A rival's score is the mean of its changes, by the same code without (2), (4) and sizes. Equation (3), and with it the
floor of (5), apply to it where a null distribution was measured for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from ..types import InfluenceScores
from .null import NullDistribution

if TYPE_CHECKING:
    from torch import Tensor

Change = Literal["difference", "absolute", "skew", "root"]
SKEW_FLOOR = 1e-3  # keeps the skew of two losses near zero near zero (MUCS, arXiv 2605.17938)
# Relative spread of a size's z-score between draw seeds, on the lab's choosing part.
SIZE_NOISE = 0.2


@dataclass(frozen=True)
class Changes:
    """The change that a method found of each image at each draw, before it is held against a null distribution."""

    example_ids: tuple[str, ...]
    per_draw: Tensor  # [n d], s of equation (2); [n 1] where a method has one figure for all draws
    likeness_weights: Tensor | None = None  # [n], w of equation (4); None for 1
    size_draws: int = 0  # how many of the draws, the last, measure sizes

    def scored(self, null: NullDistribution | None) -> InfluenceScores:
        """By equations (3), (5) and (6)."""
        return _scored(self, null)


def change_of(before: Tensor, after: Tensor, kind: Change = "root", sign: float = 1.0) -> Tensor:
    """How far each loss rose, `[n d]`, equation (1) by default; `sign` is −1 after a descent step, which lowers it."""
    if kind == "root":
        return sign * (after.sqrt() - before.sqrt())
    difference = sign * (after - before)
    if kind == "absolute":
        return difference.abs()
    return difference / (after + before + SKEW_FLOOR) if kind == "skew" else difference


def standardised(values: Tensor, stands_for: Tensor | None = None) -> Tensor:
    """Columns of `[n ...]` about their mean over the images in standard deviations; unchanged for a single image.

    `stands_for`, of the same shape, says of how many images each is an example, where not all of them were measured:
    the mean and the deviation are those of all, as estimated from these.
    """
    if len(values) < 2:
        return values
    if stands_for is None:
        return (values - values.mean(dim=0)) / values.std(dim=0).clamp(min=1e-12)
    share = (stands_for / stands_for.sum(dim=0)).to(values)
    about = values - (share * values).sum(dim=0)
    return about / (share * about.square()).sum(dim=0).sqrt().clamp(min=1e-12)


def likeness_weights(likeness: Tensor, stands_for: Tensor | None = None) -> Tensor:
    """Equation (4): `[n]` from cosines `[n]`."""
    return 1 + standardised(likeness, stands_for).clamp(min=0)


def score(changes: Changes, null: NullDistribution | None = None) -> InfluenceScores:
    """Equations (3), (5) and (6), or those of another kind of changes, with the scores without each draw in turn.

    `per_draw` of the result is scaled so that its mean over the draws is the score, up to the floors at 0. Without
    sizes and without a null distribution the score has no floor: it is the weighted mean, and may be negative.
    """
    return changes.scored(null)


def _scored(changes: Changes, null: NullDistribution | None) -> InfluenceScores:
    z = changes.per_draw if null is None else null.z_scores(changes.example_ids, changes.per_draw)  # (3)
    draws, size_draws = z.shape[1], changes.size_draws
    error_z, size_z = z.tensor_split((draws - size_draws,), dim=1)
    if changes.likeness_weights is not None:
        error_z = error_z * changes.likeness_weights[:, None]
    floored = null is not None or size_draws > 0

    def combined(error: Tensor, size: Tensor) -> Tensor:  # (5), from means over draws
        return (error.clamp(min=0) if floored else error) + size.clamp(min=0).square()

    mean_error, mean_size = _mean(error_z), _mean(size_z)
    return InfluenceScores(
        changes.example_ids,
        combined(mean_error, mean_size),
        _standard_errors(error_z, mean_size, size_draws),
        _shares(error_z, size_z, mean_size),
        _without_each(error_z, size_z, combined) if draws > 1 else None,
    )


def _mean(z: Tensor) -> Tensor:
    """Mean over the draws of `[n d]`; 0 where there is no draw."""
    return z.mean(dim=1) if z.shape[1] else torch.zeros(len(z))


def _standard_errors(error_z: Tensor, mean_size: Tensor, size_draws: int) -> Tensor:
    """Equation (6), `[n]`: of the mean over errors, and for the square of a size twice its relative SIZE_NOISE."""
    images, count = error_z.shape
    of_mean = error_z.std(dim=1) / count**0.5 if images and count > 1 else torch.full((images,), float("nan"))
    if not size_draws:
        return of_mean
    return torch.hypot(of_mean, 2 * SIZE_NOISE * mean_size.clamp(min=0).square() / size_draws**0.5)


def _shares(error_z: Tensor, size_z: Tensor, mean_size: Tensor) -> Tensor:
    """What each draw contributes, `[n d]`, scaled so that the mean over all draws is the score, but for the floors."""
    error_draws, size_draws = error_z.shape[1], size_z.shape[1]
    if not size_draws:
        return error_z
    draws = error_draws + size_draws
    squared = size_z * mean_size.clamp(min=0)[:, None]
    return torch.cat([error_z * (draws / error_draws), squared * (draws / size_draws)], dim=1)


def _without_each(error_z: Tensor, size_z: Tensor, combined: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The scores without each draw in turn, `[n d]`; ranks are steady as far as these agree."""
    error = torch.cat([_means_of_others(error_z), _mean(error_z)[:, None].expand_as(size_z)], dim=1)
    size = torch.cat([_mean(size_z)[:, None].expand_as(error_z), _means_of_others(size_z)], dim=1)
    return combined(error, size)


def _means_of_others(z: Tensor) -> Tensor:
    """For each column of `[n d]` the mean of the others; 0 where there is none."""
    return (z.sum(dim=1, keepdim=True) - z) / max(1, z.shape[1] - 1)
