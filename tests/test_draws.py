from __future__ import annotations

import pytest
import torch

from forwardinf.draws import DrawPlan

SHAPE = (2, 3, 3)


def test_draws_depend_only_on_seed_example_and_draw():
    plan = DrawPlan(seed=5, count=4)
    together = plan.draws(["a", "b", "c"], SHAPE)
    reordered = plan.draws(["c", "a"], SHAPE)
    assert torch.equal(together.noise[[2, 0]], reordered.noise)
    assert torch.equal(together.u[[2, 0]], reordered.u)


def test_every_example_draw_and_seed_has_its_own_noise():
    draws = DrawPlan(0, 3).draws(["a", "b"], SHAPE)
    others = DrawPlan(1, 3).draws(["a", "b"], SHAPE)
    streams = torch.cat([draws.noise.flatten(0, 1), others.noise.flatten(0, 1)]).flatten(1)
    assert len(torch.unique(streams, dim=0)) == 12


def test_shared_draws_are_the_same_for_every_example_and_for_the_seed_alone():
    shared = DrawPlan(0, 3, shared=True)
    draws = shared.draws(["a", "b"], SHAPE)
    assert torch.equal(draws.noise[0], draws.noise[1])
    assert torch.equal(draws.u[0], draws.u[1])
    assert torch.equal(draws.noise[:1], shared.draws(["query"], SHAPE).noise)
    assert len(torch.unique(draws.noise[0].flatten(1), dim=0)) == 3
    assert not torch.equal(draws.noise, DrawPlan(1, 3, shared=True).draws(["a", "b"], SHAPE).noise)


def test_quantiles_are_stratified_and_open():
    u = DrawPlan(3, 8).draws([f"image-{i}" for i in range(50)], SHAPE).u
    assert torch.equal((u * 8).floor(), torch.arange(8.0).expand(50, 8))
    assert u.min() > 0
    assert u.max() < 1


def test_a_quantile_stays_below_1_in_float32_too(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda own, **_: own.fill_(1 - 2**-53))
    assert DrawPlan(0, 48).draws(["image"], SHAPE).u.max() < 1


def test_noise_is_standard_normal():
    noise = DrawPlan(0, 4).draws([str(i) for i in range(200)], (4, 8, 8)).noise
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 1) < 0.01


def test_the_stream_of_a_draw_stays_what_it_was():
    # Base losses on disk were taken at these draws: another stream would make every index useless.
    draws = DrawPlan(7, 2).draws(["image"], (4, 4))
    assert draws.u[0].tolist() == pytest.approx([0.38712671, 0.63863343])
    assert draws.noise[0, :, 0, 0].tolist() == pytest.approx([1.17256057, -0.33428302])
    assert draws.u.dtype == draws.noise.dtype == torch.float32


@pytest.mark.parametrize("shared", [True, False])
def test_a_part_of_a_plan_has_the_draws_of_the_whole(shared: bool):
    plan = DrawPlan(3, 5, shared)
    whole, part = plan.draws(["a", "b"], (1, 2, 2)), plan.part(range(2, 5)).draws(["a", "b"], (1, 2, 2))
    assert torch.equal(part.u, whole.u[:, 2:])
    assert torch.equal(part.noise, whole.noise[:, 2:])
