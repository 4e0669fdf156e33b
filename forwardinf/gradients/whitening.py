"""What a move of the weights does to an example, to first order, as one inner product of two short vectors.

For a figure f of an example and a move Δ of the weights, f changes by about ∇f · Δ = (W⁻¹ ∇f) · (W Δ), whichever the
diagonal W. With the root of the damped Fisher for W, both vectors have entries of about one size, so that count
sketches keep their inner product well: the error grows with the vectors' lengths, and a gradient's length lies in few
weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from ..models.protocol import predicting
from ..types import Draws, LatentBatch
from .curvature import damped
from .per_example import by_example, weight_gradients
from .sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from ..models.protocol import AttributableModel


def size_gradients(model: AttributableModel, batch: LatentBatch, draws: Draws) -> Iterator[dict[str, Tensor]]:
    """Of each example the gradient, by weight, of the root of its prediction's mean square.

    Averaged over `draws`, by one backward for each example. Raises UnsupportedModel for a model without predictions.
    """
    able = predicting(model)
    for example, its_draws in by_example(batch, draws):
        with torch.enable_grad():
            size = able.loss_and_size(example, its_draws)[1].sqrt().mean()
            yield weight_gradients(model, size)


@dataclass(frozen=True)
class Whitening:
    """W = √(F + damping · mean F), weight by weight, and the sketch that follows it."""

    fisher: Mapping[str, Tensor]  # by weight, as `diagonal_fisher` has it
    damping: float
    dimensions: int
    seed: int

    def of_sizes(self, model: AttributableModel, batch: LatentBatch, draws: Draws) -> Tensor:
        """Sketches `[b dimensions]` of the gradients of `size_gradients`."""
        return torch.stack([self.of_gradient(gradient) for gradient in size_gradients(model, batch, draws)])

    def of_gradient(self, gradient: Mapping[str, Tensor]) -> Tensor:
        """The sketch `[dimensions]` of an example's gradient by weight."""
        return self._sketched({name: g.cpu().float() / self._roots[name] for name, g in gradient.items()})

    def of_move(self, deltas: Mapping[str, Tensor]) -> Tensor:
        """The sketch `[dimensions]` of a move of the weights, whose product with an example's is the change of it."""
        return self._sketched({name: delta.cpu().float() * self._roots[name] for name, delta in deltas.items()})

    def _sketched(self, by_weight: Mapping[str, Tensor]) -> Tensor:
        row = torch.cat([by_weight[name].flatten() for name in self._roots])
        return Sketch(row.numel(), self.dimensions, self.seed).project(row)

    @cached_property
    def _roots(self) -> dict[str, Tensor]:
        return {name: damped(f, self.damping).sqrt().cpu() for name, f in sorted(self.fisher.items())}
