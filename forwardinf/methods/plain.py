"""Forward-INF as the paper has it: an ascent step on the query without curvature, and the rise of each image's loss.

Ko et al. 2024 (arXiv 2402.08922): θ′ = θ + s · ∇L(ẑ; θ), score L(z; θ′) − L(z; θ). Two things differ from their code: s
makes the query's loss rise by `loss_budget` where it has a learning rate of Adam, and the rise is signed where it is
absolute there (`score=absolute`), which ranks an image whose loss fell as high as one whose loss rose.

Cost: that of `forward_inf`, without an index's Fisher. Settings: those of `forward_inf`, which were chosen for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from .forward_inf import Curvature, ForwardInf, Score


@dataclass(frozen=True)
class Plain(ForwardInf):
    """Settings of the method, those of `forward_inf`; a reference of habits is not asked for it."""

    curvature: Curvature = "none"
    score: Score = "difference"
    standardised: bool = False
    one_sided: bool = False
    likeness: bool = False
    size_draws: int = 0


METHOD = Plain
