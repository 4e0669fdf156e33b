"""Forward-INF as the paper has it: an ascent step on the query without curvature, and how far each image's loss moved.

Ko et al. 2024 (arXiv 2402.08922): θ′ = θ + s · ∇L(ẑ; θ), score |L(z; θ′) − L(z; θ)|, as their code has it. Two things
differ: s is such that the query's loss rises by `loss_budget`, where they use a learning rate of Adam, and the
magnitude is taken of the change at each draw, not of the mean over draws. On the lab's choosing part (`study tune`) the
magnitude did better than the signed change or its share of the loss, and the budget mattered little.

Cost: that of `forward_inf`, without an index's Fisher.
"""

from __future__ import annotations

from typing import ClassVar

from . import settings
from .forward_inf import ForwardInf


class Plain(ForwardInf):
    """The method; its fields are the settings of `forward_inf` with other defaults."""

    against_null: ClassVar = False
    curvature: settings.Curvature = "none"
    score: settings.Score = "absolute"
    standardised: settings.Standardised = False
    one_sided: settings.OneSided = False
    likeness: settings.Likeness = False
    size_draws: settings.SizeDraws = 0


METHOD = Plain
