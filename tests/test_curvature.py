"""The Fisher and its Kronecker-factored eigenbasis, against closed forms and dense inverses."""

from __future__ import annotations

import pytest
import torch

from conftest import tiny_pipeline
from forwardinf.draws import DrawPlan
from forwardinf.gradients import curvature
from forwardinf.gradients.curvature import WeightCurvature, diagonal_fisher, kronecker_fisher, preconditioned
from forwardinf.models.sd import StableDiffusion
from forwardinf.types import Draws, LatentBatch, ModelSpec

PLAN = DrawPlan(0, 1)


class KnownGradients:
    """A model of one matrix whose loss on an example has the example's latents as its gradient."""

    def __init__(self, outputs: int, inputs: int) -> None:
        self.weights = {"w": torch.zeros(outputs, inputs, requires_grad=True)}
        self.spec = ModelSpec("a matrix")

    def tunable_parameters(self) -> dict[str, torch.Tensor]:
        return self.weights

    def loss(self, batch: LatentBatch, draws: Draws) -> torch.Tensor:
        return (batch.latents[:, 0] * self.weights["w"]).sum(dim=(1, 2))[:, None].expand(draws.u.shape)


def examples(gradients: torch.Tensor) -> list[LatentBatch]:
    """Gradients `[n out in]` as two batches of examples."""
    ids = tuple(f"{i:04}" for i in range(len(gradients)))
    half = len(gradients) // 2
    rows = (slice(None, half), slice(half, None))
    return [LatentBatch(ids[part], gradients[part, None], torch.zeros(len(ids[part]), 1)) for part in rows]


def of_gradients(gradients: torch.Tensor) -> dict[str, WeightCurvature]:
    return kronecker_fisher(KnownGradients(*gradients.shape[1:]), examples(gradients), PLAN)


def rotation(size: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed))).Q


def test_weights_that_change_nothing_are_not_moved():
    """A bias of an attention's keys has gradients that are rounding errors; F⁻¹ would make those longer than others."""
    gradient = {"w": torch.ones(3), "keys.bias": torch.full((3,), 1e-10)}
    curvature = {"w": WeightCurvature(torch.ones(3)), "keys.bias": WeightCurvature(torch.full((3,), 1e-20))}
    moves = preconditioned(gradient, curvature, 0.1)
    assert not moves["keys.bias"].any()
    assert moves["w"].all()
    curvature["keys.bias"] = WeightCurvature(torch.full((3,), 1e-12))
    assert preconditioned(gradient, curvature, 0.1)["keys.bias"].all()


def test_where_the_fisher_is_a_kronecker_product_its_inverse_is_exact():
    roots = [rotation(n, n) @ torch.diag(torch.linspace(0.3, 2, n)) for n in (3, 4)]  # of G [3 3] and of A [4 4]
    gradients = torch.einsum("oi,pj->ijop", *roots).flatten(0, 1)  # Σ vec(g) vec(g)ᵀ = G ⊗ A, from 12 gradients
    flat = gradients.flatten(1).double()
    dense = flat.T @ flat / len(flat)
    torch.testing.assert_close(dense, torch.kron(*(root @ root.T for root in roots)).double() / 12)
    gradient = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    damped = dense + 0.1 * dense.trace() / 12 * torch.eye(12)
    expected = torch.linalg.solve(damped, gradient.double().flatten()).view(3, 4).float()
    found = preconditioned({"w": gradient}, of_gradients(gradients), 0.1)["w"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    by_diagonal = preconditioned({"w": gradient}, {"w": WeightCurvature(dense.diagonal().view(3, 4).float())}, 0.1)["w"]
    assert float((by_diagonal - expected).norm() / expected.norm()) > 0.1


def test_the_step_turns_with_the_coordinates_as_that_of_a_diagonal_does_not():
    spread = torch.linspace(0.2, 2, 5)[:, None] * torch.linspace(3, 0.5, 7)
    gradients = torch.randn(60, 5, 7, generator=torch.Generator().manual_seed(0)) * spread
    left, right = rotation(5, 1), rotation(7, 2)
    gradient = gradients[0] + gradients[1]
    step = preconditioned({"w": gradient}, of_gradients(gradients), 0.1)["w"]
    turned = preconditioned({"w": left @ gradient @ right}, of_gradients(left @ gradients @ right), 0.1)["w"]
    torch.testing.assert_close(turned, left @ step @ right, rtol=1e-3, atol=1e-4)

    diagonal = {"w": WeightCurvature(gradients.square().mean(0))}
    turned_diagonal = {"w": WeightCurvature((left @ gradients @ right).square().mean(0))}
    plain = preconditioned({"w": gradient}, diagonal, 0.1)["w"]
    turned_plain = preconditioned({"w": left @ gradient @ right}, turned_diagonal, 0.1)["w"]
    assert float((turned_plain - left @ plain @ right).norm() / plain.norm()) > 0.1


def test_without_a_basis_or_with_the_coordinates_as_basis_the_step_is_that_of_the_diagonal():
    gradient, squares = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0)).abs()
    expected = gradient / (squares + 0.1 * squares.mean())
    for own in (WeightCurvature(squares), WeightCurvature(squares, torch.eye(4), torch.eye(6))):
        torch.testing.assert_close(preconditioned({"w": gradient}, {"w": own}, 0.1)["w"], expected)


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="all"))


@pytest.fixture(scope="module")
def batches(model: StableDiffusion) -> list[LatentBatch]:
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    conditioning = model.encode_prompt(["red apple", "green pear", "apple"])
    return [LatentBatch((f"{i}",), latents[i : i + 1], conditioning[i : i + 1]) for i in range(3)]


def test_a_matrix_gets_an_eigenbasis_and_any_other_weight_keeps_its_diagonal(
    model: StableDiffusion, batches: list[LatentBatch], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(curvature, "LONGEST_SIDE", 64)
    before = {name: p.detach().clone() for name, p in model.unet.state_dict().items()}
    plan = DrawPlan(3, 2)
    found = kronecker_fisher(model, batches, plan)
    diagonal = diagonal_fisher(model, batches, plan)
    tunable = model.tunable_parameters()
    assert found.keys() == diagonal.keys() == tunable.keys()
    with_basis = {name for name, own in found.items() if own.outputs is not None}
    assert with_basis == {name for name, p in tunable.items() if p.ndim == 2 and max(p.shape) <= 64}
    assert 0 < len(with_basis) < sum(p.ndim == 2 for p in tunable.values())  # one is too long
    for name in found.keys() - with_basis:
        torch.testing.assert_close(found[name].moments, diagonal[name])
    assert all(torch.equal(p, before[name]) for name, p in model.unet.state_dict().items())


def test_the_moments_are_second_moments_of_the_gradients_along_the_eigenvectors(
    model: StableDiffusion, batches: list[LatentBatch]
):
    plan = DrawPlan(3, 2)
    found = kronecker_fisher(model, batches, plan)
    name, weights = next((n, p) for n, p in model.tunable_parameters().items() if n.endswith("attn2.to_k.weight"))
    gradients = torch.stack(
        [
            torch.autograd.grad(loss, weights, retain_graph=True)[0]
            for batch in batches
            for loss in model.loss(batch, plan.draws(batch.example_ids, (4, 8, 8))).flatten()
        ]
    )  # [6 out in]
    scale = 1 / gradients.square().mean().sqrt()
    outputs, inputs = found[name].outputs, found[name].inputs
    for basis, factor in (
        (outputs, (gradients @ gradients.mT).mean(0)),
        (inputs, (gradients.mT @ gradients).mean(0)),
    ):
        torch.testing.assert_close(basis.T @ basis, torch.eye(len(basis)), rtol=0, atol=1e-5)
        values = torch.linalg.eigvalsh(factor) * scale**2
        torch.testing.assert_close(basis.T @ factor @ basis * scale**2, torch.diag(values), rtol=0, atol=1e-3)
    expected = (outputs.T @ gradients @ inputs).square().mean(0)
    torch.testing.assert_close(found[name].moments * scale**2, expected * scale**2, rtol=1e-4, atol=1e-6)
