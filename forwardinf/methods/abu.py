"""Attribution by unlearning: the query is unlearned along its Fisher-preconditioned gradient, and images' losses rise.

Wang et al. 2024 (arXiv 2406.09408, eq. 8): θ′ = θ + (α ⁄ N) F⁻¹ ∇L(ẑ; θ) with the diagonal Fisher F, score
L(z; θ′) − L(z; θ). Here the step is sized by its effect (`loss_budget`) where theirs is by α, any weights may be moved
(`--tunable "cross-attention k,v"` takes theirs), and no image is tried mirrored.

Cost: that of `forward_inf`. Settings: those of `forward_inf`, which were chosen for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from .forward_inf import Curvature
from .plain import Plain


@dataclass(frozen=True)
class Abu(Plain):
    """Settings of the method, those of `forward_inf`; a reference of habits is not asked for it."""

    curvature: Curvature = "fisher"


METHOD = Abu
