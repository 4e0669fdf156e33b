"""Attribution by unlearning with a Kronecker-factored curvature, as its successor has it.

AbU+ in Wang et al. 2025 (arXiv 2511.10721): as `abu`, the Fisher taken in an eigenbasis of each weight matrix, which
`kronecker_fisher` makes and says how it differs from EK-FAC. It needs an index that was built with --kronecker. Of the
settings that `abu` was tried with, the same did best.
"""

from __future__ import annotations

from dataclasses import dataclass

from .abu import Abu
from .forward_inf import Curvature


@dataclass(frozen=True)
class AbuPlus(Abu):
    """Settings of the method, of the kind that `forward_inf` has; a reference of habits is not asked for it."""

    curvature: Curvature = "kronecker"


METHOD = AbuPlus
