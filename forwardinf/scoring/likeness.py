"""How alike pictures are to the model's own eye: cosines of their latents about the training set's mean.

About the mean, because latents of all pictures share much of it (a background, a brightness), which makes any two look
alike by a plain cosine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.functional import normalize

if TYPE_CHECKING:
    from torch import Tensor


def likeness(latents: Tensor, others: Tensor, mean: Tensor) -> Tensor:
    """Cosines `[b o]` of latents `[b c h w]` with others `[o c h w]`, about a mean `[c h w]`."""
    ours, theirs = (normalize((x.float() - mean).flatten(1), dim=1) for x in (latents, others))
    return ours @ theirs.T
