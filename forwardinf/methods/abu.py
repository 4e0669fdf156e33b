"""Attribution by unlearning: the query is unlearned along its Fisher-preconditioned gradient, and images' losses rise.

Wang et al. 2024 (arXiv 2406.09408, eq. 8): θ′ = θ + (α ⁄ N) F⁻¹ ∇L(ẑ; θ) with the diagonal Fisher F, score
L(z; θ′) − L(z; θ). Here the step is sized by its effect (`loss_budget`) where theirs is by α, any weights may be moved
(`--tunable "cross-attention k,v"` takes theirs), and no image is tried mirrored.

Cost: that of `forward_inf`. Of budgets of 5, 10 and 20 % the last did best on the lab's queries for choosing (`study
tune`), and a larger one was not tried; a tenth or ten times the damping changed little.
"""

from __future__ import annotations

from dataclasses import dataclass

from .forward_inf import Curvature, Score
from .plain import Plain


@dataclass(frozen=True)
class Abu(Plain):
    """Settings of the method, of the kind that `forward_inf` has; a reference of habits is not asked for it."""

    curvature: Curvature = "fisher"
    score: Score = "difference"
    loss_budget: float = 0.2


METHOD = Abu
