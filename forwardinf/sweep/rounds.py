"""A sweep is a list of rounds: what is measured, of which training images, at which draws, under which weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ALL_DRAWS = None  # the column of a figure that all draws of a round have in common
RoundKey = tuple[str, "tuple[int | None, ...]"]  # quantity and columns, which no two rounds of a sweep share


@dataclass(frozen=True)
class Round:
    """One measurement of a sweep. `quantity` names it in the table, and to the method that takes it."""

    quantity: str
    draws: tuple[int, ...]  # numbers in the index's plan; none for what needs no forward
    deltas: Mapping[str, Tensor] = field(default_factory=dict)  # added to the tunable weights meanwhile, by name
    one_figure: bool = False  # for all draws together, rather than one for each
    example_ids: tuple[str, ...] | None = None  # None for every image that the sweep visits

    @property
    def columns(self) -> tuple[int | None, ...]:
        """The draws that the round fills in the table."""
        return (ALL_DRAWS,) if self.one_figure else self.draws

    @property
    def key(self) -> RoundKey:
        """Of the part of the table that it fills."""
        return self.quantity, self.columns


@dataclass(frozen=True)
class Measured:
    """What one task of a round found: figures of some examples at the round's columns."""

    quantity: str
    columns: tuple[int | None, ...]
    example_ids: tuple[str, ...]
    values: Tensor  # [b columns ...] float32, on the CPU

    @property
    def key(self) -> RoundKey:
        """Of the round that found it."""
        return self.quantity, self.columns


def forwards(rounds: Iterable[Round], examples: int) -> int:
    """How many forwards the rounds ask for, where a round without its own list visits `examples` images."""
    return sum(len(r.draws) * (examples if r.example_ids is None else len(r.example_ids)) for r in rounds)
