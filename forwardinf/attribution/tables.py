"""What a sweep measured, beside what the index knows of the same images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..index.store import Index
from ..methods.protocol import QueryState
from ..sweep.rounds import Measured, Round
from ..sweep.table import Table

if TYPE_CHECKING:
    from torch import Tensor


def table_of(
    index: Index,
    state: QueryState,
    results: tuple[Measured, ...],
    stands_for: Callable[[Round], Tensor] | None = None,
) -> Table:
    """The measurements of a sweep over the images that `index` visits, each of which `stands_for` so many."""
    return Table.of(index.visited, index.base_losses, index.base_sizes, state.rounds, results, stands_for)
