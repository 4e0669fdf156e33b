"""The noise schedule of rectified flows against a closed form and against diffusers' own scheduler."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from forwardinf.errors import UnsupportedModel
from forwardinf.models.noise import RectifiedFlow

TOKENS = 1024


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_levels_are_those_that_the_scheduler_trains_at(shift: float):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    flow = RectifiedFlow.of(scheduler, "cpu", TOKENS)
    torch.testing.assert_close(flow.sigmas.flip(0), scheduler.sigmas)
    noised = flow.noised(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), torch.tensor([0.25]))
    sigma = shift * 0.251 / (1 + (shift - 1) * 0.251)
    assert float(noised.x_t) == pytest.approx(sigma)
    assert float(noised.t) == pytest.approx(1000 * sigma)


@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_where_the_shift_depends_on_the_pictures_size_it_is_that_of_the_pipelines(kind: str):
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind, shift=7.0)
    flow = RectifiedFlow.of(scheduler, "cpu", TOKENS)
    mu = calculate_shift(TOKENS)
    scheduler.set_timesteps(sigmas=[level / 1000 for level in range(1000, 0, -1)], mu=mu)
    torch.testing.assert_close(flow.sigmas.flip(0), scheduler.sigmas[:-1])
    assert not torch.allclose(flow.sigmas, RectifiedFlow.of(scheduler, "cpu", 4096).sigmas)


def test_a_picture_goes_to_noise_in_a_straight_line_at_the_velocity_of_the_target():
    flow = RectifiedFlow.of(FlowMatchHeunDiscreteScheduler(), "cpu", TOKENS)
    x_0, eps = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    noised = flow.noised(x_0, eps, torch.tensor([0.0, 0.5, 1 - 2**-20]))
    torch.testing.assert_close(noised.target, eps - x_0)
    sigma = (noised.t / 1000).view(-1, 1, 1, 1)
    torch.testing.assert_close(noised.x_t, x_0 + sigma * noised.target)
    torch.testing.assert_close(noised.x_t[2], eps[2])
    level, t = flow.scaled(x_0, 0.5)
    torch.testing.assert_close(level, (1 - t / 1000) * x_0)


def test_how_pictures_are_drawn_is_no_part_of_it():
    plain = RectifiedFlow.of(FlowMatchEulerDiscreteScheduler(), "cpu", TOKENS)
    drawn = RectifiedFlow.of(FlowMatchEulerDiscreteScheduler(shift_terminal=0.02, use_karras_sigmas=True), "cpu", 7)
    assert plain.settings == drawn.settings
    assert torch.equal(plain.sigmas, drawn.sigmas)


@pytest.mark.parametrize("scheduler", [DDPMScheduler(), FlowMatchEulerDiscreteScheduler(invert_sigmas=True)])
def test_what_is_no_such_flow_is_refused(scheduler: object):
    with pytest.raises(UnsupportedModel, match="no rectified flow"):
        RectifiedFlow.of(scheduler, "cpu", TOKENS)
