"""What a sweep has measured so far, keyed by quantity, training image and draw.

Every cell has a flag for whether it was measured. So the order of tasks, the batch size, an interruption or the place
where a task ran cannot matter: a result says which cells it fills, and filling one again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .rounds import ALL_DRAWS, Measured, Round

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Quantity:
    """The figures of one quantity, and which of them were measured."""

    draws: tuple[int | None, ...]  # numbers of the index's plan, or ALL_DRAWS
    values: Tensor  # [n draws ...] float32; not a number where nothing was measured
    measured: Tensor  # [n draws] of bool
    # [n draws], how many indexed images each stands for in a mean over images at that draw; None for 1.
    stands_for: Tensor | None = None

    def at(self, rows: Tensor) -> Quantity:
        """These images alone."""
        stands_for = None if self.stands_for is None else self.stands_for[rows]
        return Quantity(self.draws, self.values[rows], self.measured[rows], stands_for)


@dataclass(frozen=True)
class Table:
    """The measurements of a sweep beside what the index knows of the same images."""

    example_ids: tuple[str, ...]
    base_losses: Tensor  # [n d] float32, at every draw of the index's plan, under the model's weights as they are
    base_sizes: Tensor  # [n d] float32, mean squares of the prediction, likewise
    quantities: Mapping[str, Quantity]

    @classmethod
    def of(
        cls,
        example_ids: tuple[str, ...],
        base_losses: Tensor,
        base_sizes: Tensor,
        rounds: Iterable[Round],
        results: Iterable[Measured],
        stands_for: Callable[[Round], Tensor] | None = None,
    ) -> Table:
        """The table of `rounds` with `results` filled in, in whatever order they came.

        Rounds of one quantity fill its columns together. `stands_for` says of a round how many indexed images each
        example stands for, `[n]`.
        """
        by_quantity: dict[str, list[Measured]] = {}
        for result in results:
            by_quantity.setdefault(result.quantity, []).append(result)
        row = {example_id: i for i, example_id in enumerate(example_ids)}
        of_quantity: dict[str, list[Round]] = {}
        for one_round in rounds:
            of_quantity.setdefault(one_round.quantity, []).append(one_round)
        quantities = {
            name: _filled(its_rounds, row, by_quantity.get(name, []), stands_for)
            for name, its_rounds in of_quantity.items()
        }
        return cls(example_ids, base_losses, base_sizes, quantities)

    def __getitem__(self, quantity: str) -> Tensor:
        """The figures of a quantity, `[n draws ...]`."""
        return self.quantities[quantity].values

    def base_losses_of(self, quantity: str) -> Tensor:
        """Base losses at the draws of a quantity, `[n draws]`."""
        return self.base_losses[:, _numbers(self.quantities[quantity])]

    def base_sizes_of(self, quantity: str) -> Tensor:
        """Base sizes at the draws of a quantity, `[n draws]`."""
        return self.base_sizes[:, _numbers(self.quantities[quantity])]

    def shares(self, *quantities: str) -> Tensor | None:
        """How many indexed images each stands for at the draws of these quantities, `[n draws]`; None for 1."""
        found = [self.quantities[quantity].stands_for for quantity in quantities]
        return None if found[0] is None else torch.cat([shares for shares in found if shares is not None], dim=1)

    def has(self, quantity: str) -> bool:
        """Whether a quantity was measured of every image here, at each of its draws."""
        return quantity in self.quantities and bool(self.quantities[quantity].measured.all())

    def known(self, quantity: str, draws: Sequence[int | None] | None = None) -> Table:
        """The part of the table whose images have this quantity measured at each of these draws, by default all."""
        rows = self.with_all(quantity, draws)
        return self if bool(rows.all()) else self.at(rows)

    def with_all(self, quantity: str, draws: Sequence[int | None] | None = None) -> Tensor:
        """Which images have this quantity measured at each of these draws, by default all: `[n]` of bool."""
        found = self.quantities[quantity]
        places = [found.draws.index(draw) for draw in (found.draws if draws is None else draws)]
        return found.measured[:, places].all(dim=1)

    def at(self, rows: Tensor) -> Table:
        """The part of the table with the images of this mask `[n]`."""
        kept = rows.nonzero()[:, 0]
        quantities = {name: found.at(kept) for name, found in self.quantities.items()}
        ids = tuple(self.example_ids[i] for i in kept.tolist())
        return Table(ids, self.base_losses[kept], self.base_sizes[kept], quantities)


def _numbers(quantity: Quantity) -> list[int]:
    assert all(draw is not ALL_DRAWS for draw in quantity.draws)
    return [draw for draw in quantity.draws if draw is not None]


def _filled(
    rounds: Sequence[Round],
    row: Mapping[str, int],
    results: list[Measured],
    stands_for: Callable[[Round], Tensor] | None,
) -> Quantity:
    draws = _columns(rounds)
    inner = results[0].values.shape[2:] if results else ()
    values = torch.full((len(row), len(draws), *inner), float("nan"))
    measured = torch.zeros(len(row), len(draws), dtype=torch.bool)
    place = {draw: k for k, draw in enumerate(draws)}
    for result in results:
        rows = torch.tensor([row[example_id] for example_id in result.example_ids], dtype=torch.long)[:, None]
        at = torch.tensor([place[draw] for draw in result.columns], dtype=torch.long)[None]
        values[rows, at] = result.values
        measured[rows, at] = True
    if stands_for is None:
        return Quantity(draws, values, measured)
    shares = torch.ones(len(row), len(draws))
    for one_round in rounds:
        shares[:, [place[draw] for draw in one_round.columns]] = stands_for(one_round)[:, None]
    return Quantity(draws, values, measured, shares)


def _columns(rounds: Sequence[Round]) -> tuple[int | None, ...]:
    """Of all these rounds, in the order of the draws' numbers."""
    if len(rounds) == 1:
        return rounds[0].columns
    return tuple(sorted(draw for one_round in rounds for draw in one_round.draws))
