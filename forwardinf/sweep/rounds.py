"""A sweep is a list of rounds: what is measured, of which training images, at which draws, under which weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ALL_DRAWS = -1  # the column of a figure that all draws of a round have in common


@dataclass(frozen=True)
class Round:
    """One measurement of a sweep. `quantity` names it in the table, and to the method that takes it."""

    quantity: str
    draws: tuple[int, ...]  # numbers in the index's plan; none for what needs no forward
    deltas: Mapping[str, Tensor] = field(default_factory=dict)  # added to the tunable weights meanwhile, by name
    per_draw: bool = True  # whether each draw has a figure, or all of them have one together
    example_ids: tuple[str, ...] | None = None  # None for every image that the sweep visits

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns of the table that the round fills."""
        return self.draws if self.per_draw else (ALL_DRAWS,)


@dataclass(frozen=True)
class Measured:
    """What one task of a round found: figures of some examples at the round's columns."""

    quantity: str
    columns: tuple[int, ...]
    example_ids: tuple[str, ...]
    values: Tensor  # [b columns ...] float32, on the CPU


def forwards(rounds: Iterable[Round], examples: int) -> int:
    """How many forwards the rounds ask for, where a round without its own list visits `examples` images."""
    return sum(len(r.draws) * (examples if r.example_ids is None else len(r.example_ids)) for r in rounds)
