"""How alike pictures are in the model's latents: cosines about the training set's mean.

Latents of all pictures share much of their mean (a background, a brightness), so a plain cosine finds any two alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.functional import normalize

from ..index.mean_file import resampled

if TYPE_CHECKING:
    from torch import Tensor


def likeness(latents: Tensor, others: Tensor, mean: Tensor) -> Tensor:
    """Cosines `[b o]` of latents `[b c h w]` with others `[o c h w]`, about a mean `[c h w]`, in its shape."""
    one, other = (normalize((resampled(x.float(), mean.shape) - mean).flatten(1), dim=1) for x in (latents, others))
    return one @ other.T
