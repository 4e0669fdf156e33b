"""The Fisher of the tunable weights: by weight, or in an eigenbasis of each weight matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..draws import DrawPlan
from ..types import LatentBatch
from .per_example import by_draw, mean_gradient

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel

ROUNDING = torch.finfo(torch.float32).eps  # share of the greatest gradient at which others are rounding errors
LONGEST_SIDE = 4096  # of a matrix that gets an eigenbasis: a longer side's takes minutes to find and over 64 MB to keep


@dataclass(frozen=True)
class WeightCurvature:
    """The Fisher of one weight, taken as diagonal: in its own coordinates, or in an eigenbasis where it has one.

    All in float32. With bases U_G and U_A, the Fisher is (U_G ⊗ U_A) diag(moments) (U_G ⊗ U_A)ᵀ.
    """

    moments: Tensor  # of the weight's shape: mean squared gradient along each coordinate
    outputs: Tensor | None = None  # U_G [out out], a column per direction
    inputs: Tensor | None = None  # U_A [in in]

    def rotated(self, gradient: Tensor) -> Tensor:
        """U_Gᵀ g U_A, the gradient in the coordinates of `moments`."""
        if self.outputs is None or self.inputs is None:
            return gradient
        return self.outputs.to(gradient).T @ gradient @ self.inputs.to(gradient)

    def rotated_back(self, coordinates: Tensor) -> Tensor:
        """U_G c U_Aᵀ, what `rotated` undoes."""
        if self.outputs is None or self.inputs is None:
            return coordinates
        return self.outputs.to(coordinates) @ coordinates @ self.inputs.to(coordinates).T


def diagonal_fisher(model: AttributableModel, batches: Iterable[LatentBatch], plan: DrawPlan) -> dict[str, Tensor]:
    """Mean over examples and draws of the squared gradient of each loss, by weight.

    In float32 whatever the weights are, as squares underflow in float16.
    """
    total = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in model.tunable_parameters().items()}
    count = 0
    for gradients in _gradients(model, batches, plan):
        for name, gradient in gradients.items():
            total[name] += gradient.float().square()
        count += 1
    return {name: squares / max(1, count) for name, squares in total.items()}


def kronecker_fisher(
    model: AttributableModel, batches: Iterable[LatentBatch], plan: DrawPlan
) -> dict[str, WeightCurvature]:
    """The Fisher of each weight: of a matrix in a Kronecker-factored eigenbasis, of any other its diagonal.

    The eigenvalues are those of EK-FAC (George et al. 2018, arXiv 1806.03884): second moments of the gradients of
    single examples and draws along each direction of the basis. The eigenbasis is not K-FAC's, whose factors are
    covariances of a layer's inputs and of its output's gradients and need its activations; it is that of Shampoo and
    SOAP (Gupta et al. 2018, arXiv 1802.09568; Vyas et al. 2024, arXiv 2409.11321), of the means of g gᵀ and of gᵀ g
    over the same gradients. Both agree where the Fisher is a Kronecker product; elsewhere each is an approximation of
    its own.

    Convolutions, biases, norms and matrices with a side beyond LONGEST_SIDE keep their diagonal, equal to
    `diagonal_fisher`. Cost: twice that of `diagonal_fisher`, as its backward passes are needed once for the bases and
    once for the moments, so that `batches` are walked through twice. Deterministic on one machine.
    """
    assert iter(batches) is not batches, "an iterator would be used up after the first walk"
    bases = _eigenbases(model, batches, plan)
    zeros = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in model.tunable_parameters().items()}
    total = {name: WeightCurvature(moments, *bases.get(name, ())) for name, moments in zeros.items()}
    count = 0
    for gradients in _gradients(model, batches, plan):
        for name, gradient in gradients.items():
            total[name].moments.add_(total[name].rotated(gradient.float()).square())
        count += 1
    for curvature in total.values():
        curvature.moments.div_(max(1, count))
    return total


def damped(moments: Tensor, damping: float) -> Tensor:
    """The moments of one weight with a share of their mean added, never 0."""
    return moments + damping * moments.mean() + 1e-30


def preconditioned(
    gradient: Mapping[str, Tensor], curvature: Mapping[str, WeightCurvature], damping: float
) -> dict[str, Tensor]:
    """F⁻¹ g in float32: U_G ((U_Gᵀ g U_A) / (λ + damping · mean λ)) U_Aᵀ, and g / (λ + damping · mean λ) without bases.

    λ are the moments; damping by a share of a layer's mean eigenvalue is that of Grosse et al. 2023 (arXiv 2308.03296).
    Weights that change nothing, such as a bias of an attention's keys, are not moved: their gradients are rounding
    errors, which F⁻¹ would make longer than all others.
    """
    moves = {}
    means = {name: float(fisher.moments.mean()) for name, fisher in curvature.items()}
    least = ROUNDING**2 * max(means.values(), default=0.0)
    for name, g in gradient.items():  # one weight at a time, as a damped copy of all takes 4 bytes a weight
        fisher = curvature[name]
        if means[name] < least:
            moves[name] = torch.zeros_like(g, dtype=torch.float32)
            continue
        divisor = damped(fisher.moments, damping).to(g.device)
        moves[name] = fisher.rotated_back(fisher.rotated(g.float()) / divisor)
    return moves


def _gradients(model: AttributableModel, batches: Iterable[LatentBatch], plan: DrawPlan) -> Iterator[dict[str, Tensor]]:
    """Gradients by weight, one for the loss of each example at each of its draws."""
    for batch in batches:
        draws = plan.draws(batch.example_ids, batch.latents.shape[1:])
        for example, its_draw in by_draw(batch, draws):
            yield mean_gradient(model, model.loss, example, its_draw)[1]


def _eigenbases(
    model: AttributableModel, batches: Iterable[LatentBatch], plan: DrawPlan
) -> dict[str, tuple[Tensor, Tensor]]:
    """Eigenvectors (U_G, U_A) of Σ g gᵀ `[out out]` and Σ gᵀ g `[in in]`, by matrix."""
    tunable = model.tunable_parameters()
    matrices = {name: p for name, p in tunable.items() if p.ndim == 2 and max(p.shape) <= LONGEST_SIDE}
    factors = {name: tuple(p.new_zeros(n, n, dtype=torch.float32) for n in p.shape) for name, p in matrices.items()}
    if not factors:
        return {}
    for gradients in _gradients(model, batches, plan):
        for name, (outputs, inputs) in factors.items():
            g = gradients[name].float()
            outputs.addmm_(g, g.T)
            inputs.addmm_(g.T, g)
    return {name: (_eigenvectors(outputs), _eigenvectors(inputs)) for name, (outputs, inputs) in factors.items()}


def _eigenvectors(symmetric: Tensor) -> Tensor:
    there = symmetric.cpu() if symmetric.device.type == "mps" else symmetric  # which has no float64
    return torch.linalg.eigh(there.double()).eigenvectors.float().contiguous().to(symmetric.device)
