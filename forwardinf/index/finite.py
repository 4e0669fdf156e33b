"""Numbers that are no numbers, refused where they first appear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import NonFinite

if TYPE_CHECKING:
    from torch import Tensor

TRY = "The checkpoint may hold weights that are not finite: try it in float32, or another checkpoint."


def require_finite(values: Tensor, example_ids: Sequence[str], what: str, by_draw: bool = False) -> None:
    """Raise NonFinite naming the first image, and draw, that has a value in its row `[n ...]` that is no number."""
    finite = values.isfinite()
    if finite.all():
        return
    row, *place = (~finite).nonzero()[0].tolist()
    draw = f" at draw {place[0]}" if by_draw else ""
    number = values[(row, *place)].item()
    raise NonFinite(f"{what} “{example_ids[row]}”{draw} gives {number}, so it cannot be indexed. {TRY}")
