"""What a sweep has measured so far, keyed by quantity, training image and draw.

Every cell has a flag for whether it was measured. So the order of tasks, the batch size, an interruption or the place
where a task ran cannot matter: a result says which cells it fills, and filling one again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


@dataclass(frozen=True)
class Table:
    """The measurements of a sweep beside what the index knows of the same images."""

    example_ids: tuple[str, ...]
    base_losses: Tensor  # [n d] float32, at every draw of the index's plan, under the model's weights as they are
    base_sizes: Tensor  # [n d] float32, mean squares of the prediction, likewise
    quantities: Mapping[str, Quantity]
    stands_for: Tensor | None = None  # [n], how many indexed images each stands for in a mean; None for 1

    @classmethod
    def of(
        cls,
        example_ids: tuple[str, ...],
        base_losses: Tensor,
        base_sizes: Tensor,
        rounds: Iterable[Round],
        results: Iterable[Measured],
        stands_for: Tensor | None = None,
    ) -> Table:
        """The table of `rounds` with `results` filled in, in whatever order they came."""
        by_quantity: dict[str, list[Measured]] = {}
        for result in results:
            by_quantity.setdefault(result.quantity, []).append(result)
        row = {example_id: i for i, example_id in enumerate(example_ids)}
        quantities = {r.quantity: _filled(r, row, by_quantity.get(r.quantity, [])) for r in rounds}
        return cls(example_ids, base_losses, base_sizes, quantities, stands_for)

    def __getitem__(self, quantity: str) -> Tensor:
        """The figures of a quantity, `[n draws ...]`."""
        return self.quantities[quantity].values

    def base_losses_of(self, quantity: str) -> Tensor:
        """Base losses at the draws of a quantity, `[n draws]`."""
        return self.base_losses[:, _numbers(self.quantities[quantity])]

    def base_sizes_of(self, quantity: str) -> Tensor:
        """Base sizes at the draws of a quantity, `[n draws]`."""
        return self.base_sizes[:, _numbers(self.quantities[quantity])]

    def has(self, quantity: str) -> bool:
        """Whether a quantity was measured of every image here, at each of its draws."""
        return quantity in self.quantities and bool(self.quantities[quantity].measured.all())

    def known(self, quantity: str) -> Table:
        """The part of the table whose images have this quantity measured at each of its draws."""
        rows = self.quantities[quantity].measured.all(dim=1)
        if bool(rows.all()):
            return self
        kept = rows.nonzero()[:, 0]
        quantities = {
            name: Quantity(found.draws, found.values[kept], found.measured[kept])
            for name, found in self.quantities.items()
        }
        ids = tuple(self.example_ids[i] for i in kept.tolist())
        stands_for = None if self.stands_for is None else self.stands_for[kept]
        return Table(ids, self.base_losses[kept], self.base_sizes[kept], quantities, stands_for)


def _numbers(quantity: Quantity) -> list[int]:
    assert all(draw is not ALL_DRAWS for draw in quantity.draws)
    return [draw for draw in quantity.draws if draw is not None]


def _filled(one_round: Round, row: Mapping[str, int], results: list[Measured]) -> Quantity:
    draws = one_round.columns
    inner = results[0].values.shape[2:] if results else ()
    values = torch.full((len(row), len(draws), *inner), float("nan"))
    measured = torch.zeros(len(row), len(draws), dtype=torch.bool)
    place = {draw: k for k, draw in enumerate(draws)}
    for result in results:
        rows = torch.tensor([row[example_id] for example_id in result.example_ids], dtype=torch.long)[:, None]
        at = torch.tensor([place[draw] for draw in result.columns], dtype=torch.long)[None]
        values[rows, at] = result.values
        measured[rows, at] = True
    return Quantity(draws, values, measured)
