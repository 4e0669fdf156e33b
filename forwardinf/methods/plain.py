"""Forward-INF as the paper has it: an ascent step on the query without curvature, and how far each image's loss moved.

Ko et al. 2024 (arXiv 2402.08922): θ′ = θ + s · ∇L(ẑ; θ), score |L(z; θ′) − L(z; θ)|, as their code has it. Two things
differ: s makes the query's loss rise by `loss_budget` where they have a learning rate of Adam, and the magnitude is
taken of the change at each draw, not of the mean over draws. By the lab's queries for choosing (`study tune`) it did
better than the change with its sign or its share of the loss, and the budget mattered little.

Cost: that of `forward_inf`, without an index's Fisher.
"""

from __future__ import annotations

from dataclasses import dataclass

from .forward_inf import Curvature, ForwardInf, Score


@dataclass(frozen=True)
class Plain(ForwardInf):
    """Settings of the method, of the kind that `forward_inf` has; a reference of habits is not asked for it."""

    curvature: Curvature = "none"
    score: Score = "absolute"
    standardised: bool = False
    one_sided: bool = False
    likeness: bool = False
    size_draws: int = 0


METHOD = Plain
