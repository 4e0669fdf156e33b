"""Attribution by unlearning with a Kronecker-factored curvature, as its successor has it.

AbU+ in Wang et al. 2025 (arXiv 2511.10721): `abu` with the Fisher in an eigenbasis of each weight matrix, as
`kronecker_fisher` estimates it, which says how that differs from EK-FAC. It needs an index built with --kronecker. The
settings that did best for `abu` did best here too.
"""

from __future__ import annotations

from . import settings
from .abu import Abu


class AbuPlus(Abu):
    """The method; its fields are the settings of `abu` with another curvature."""

    curvature: settings.Curvature = "kronecker"


METHOD = AbuPlus
