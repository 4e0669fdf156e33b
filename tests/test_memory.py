"""Parts are as large as memory allows, and what is computed in parts is what would be computed at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from conftest import tiny_pipeline, write_patches
from forwardinf.draws import DrawPlan
from forwardinf.errors import OutOfMemory
from forwardinf.examples.metadata import training_images
from forwardinf.gradients.curvature import diagonal_fisher
from forwardinf.gradients.per_example import mean_gradient, mean_value
from forwardinf.index.build import Build, BuildPlan, build_index
from forwardinf.models.sd import StableDiffusion
from forwardinf.sweep.parts import Parts
from forwardinf.types import Draws, LatentBatch, ModelSpec

SHAPE = (4, 8, 8)


def test_a_part_holds_as_many_as_fit_and_at_least_one():
    assert [Parts.within(2**18, side**2).most for side in (64, 512, 1024)] == [64, 1, 1]
    assert [Parts.within(2**21, side**2).most for side in (512, 1024)] == [8, 2]


def test_parts_are_halved_where_memory_runs_out_and_stay_so():
    parts, tried = Parts(8), list[int]()

    def work(part: slice) -> list[int]:
        tried.append(part.stop - part.start)
        if tried[-1] > 3:
            raise torch.OutOfMemoryError
        return list(range(part.start, part.stop))

    assert [i for _, numbers in parts.over(9, work) for i in numbers] == list(range(9))
    assert tried == [8, 4, 2, 2, 2, 2, 1]
    tried.clear()
    assert [part for part, _ in parts.over(3, work)] == [slice(0, 2), slice(2, 3)]
    assert tried == [2, 1]


def test_what_does_not_fit_by_itself_is_an_error_that_says_what_to_try():
    def work(part: slice) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(OutOfMemory, match=r"--dtype float16.*--tunable"):
        list(Parts(8).over(9, work))


def limited(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch, latents: Callable[[], int]) -> list[int]:
    """The model runs out of memory on more noised latents than `latents` says; how many each loss was of."""
    loss, taken = model.loss, list[int]()

    def within(batch: LatentBatch, draws: Draws) -> torch.Tensor:
        if draws.u.numel() > latents():
            raise torch.OutOfMemoryError
        taken.append(draws.u.numel())
        return loss(batch, draws)

    monkeypatch.setattr(model, "loss", within)
    return taken


def asked(model: StableDiffusion, examples: int, draws: int = 4) -> tuple[LatentBatch, Draws]:
    latents = torch.randn(examples, *SHAPE, generator=torch.Generator().manual_seed(1))
    ids = tuple(map(str, range(examples)))
    batch = LatentBatch(ids, latents, model.encode_prompt([f"red apple {i}" for i in ids]))
    return batch, DrawPlan(0, draws).draws(ids, SHAPE)


def assert_same_gradient(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-9, name


@pytest.mark.parametrize("examples", [1, 3])
def test_a_gradient_in_parts_is_that_of_the_whole(
    tiny_model: StableDiffusion, monkeypatch: pytest.MonkeyPatch, examples: int
):
    batch, draws = asked(tiny_model, examples)
    value, whole = mean_gradient(tiny_model, tiny_model.loss, batch, draws)
    assert value == pytest.approx(float(tiny_model.loss(batch, draws).mean().detach()), rel=1e-6)
    taken = limited(tiny_model, monkeypatch, lambda: 3)
    in_parts, gradient = mean_gradient(tiny_model, tiny_model.loss, *asked(tiny_model, 1))
    assert taken == [2, 2]
    if examples == 1:
        assert in_parts == pytest.approx(value, rel=1e-6)
        assert_same_gradient(gradient, whole)
    monkeypatch.undo()
    taken = limited(tiny_model, monkeypatch, lambda: 4)
    assert mean_value(tiny_model.loss, batch, draws) == pytest.approx(value, rel=1e-6)
    in_parts, gradient = mean_gradient(tiny_model, tiny_model.loss, batch, draws)
    assert set(taken) == {4}
    assert in_parts == pytest.approx(value, rel=1e-6)
    assert_same_gradient(gradient, whole)


def test_a_large_latent_takes_a_backward_for_every_draw():
    seen: list[tuple[int, ...]] = []
    weights = torch.zeros(1, requires_grad=True)

    class Large:
        def __init__(self, device: str) -> None:
            self.spec = ModelSpec("large", device=device)

        def tunable_parameters(self) -> dict[str, torch.Tensor]:
            return {"w": weights}

    def loss(batch: LatentBatch, draws: Draws) -> torch.Tensor:
        seen.append(tuple(draws.u.shape))
        return weights.expand(draws.u.shape)

    alone, together = [(1, 1)] * 4, [(1, 4)]
    sizes = {("cuda", 128): alone, ("cuda", 64): together, ("cpu", 64): alone, ("cpu", 32): together}
    for (device, side), expected in sizes.items():
        seen.clear()
        latents, noise = (torch.zeros(1).expand(*shape, 4, side, side) for shape in ((1,), (1, 4)))
        batch, draws = LatentBatch(("a",), latents, torch.zeros(1, 1)), Draws(torch.zeros(1, 4), noise)
        assert mean_gradient(Large(device), loss, batch, draws)[1]["w"].item() == 1
        assert seen == expected


def test_activations_are_computed_again_where_even_one_draw_does_not_fit(
    tiny_model: StableDiffusion, monkeypatch: pytest.MonkeyPatch
):
    batch, draws = asked(tiny_model, 1)
    expected = mean_gradient(tiny_model, tiny_model.loss, batch, draws)[1]
    fisher = diagonal_fisher(tiny_model, [batch], DrawPlan(0, 2))
    unet = tiny_model.unet
    limited(tiny_model, monkeypatch, lambda: 1 if unet.is_gradient_checkpointing else 0)
    assert_same_gradient(mean_gradient(tiny_model, tiny_model.loss, batch, draws)[1], expected)
    assert unet.is_gradient_checkpointing
    unet.disable_gradient_checkpointing()
    assert_same_gradient(diagonal_fisher(tiny_model, [batch], DrawPlan(0, 2)), fisher)
    monkeypatch.undo()
    limited(tiny_model, monkeypatch, lambda: 0)
    with pytest.raises(OutOfMemory):
        mean_gradient(tiny_model, tiny_model.loss, batch, draws)


def test_saving_memory_keeps_fewer_activations(tiny_model: StableDiffusion):
    batch, draws = asked(tiny_model, 1)

    def kept() -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            tiny_model.loss(batch, draws)
        return sum(sizes)

    before = kept()
    assert tiny_model.save_memory()
    assert kept() < before / 2
    assert not tiny_model.save_memory()


def test_an_index_built_in_small_parts_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    patches = training_images(write_patches(tmp_path, 5))
    plan = BuildPlan(draws=2, fisher_images=2, fisher_draws=1)
    model = StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))
    whole = build_index(model, patches, tmp_path / "whole", plan)
    encode, taken = model.encode_image, list[int]()

    def within(pictures: Sequence[Image.Image]) -> torch.Tensor:
        if len(pictures) > 2:
            raise torch.OutOfMemoryError
        taken.append(len(pictures))
        return encode(pictures)

    read: list[str] = []
    monkeypatch.setattr(model, "encode_image", within)
    picture = type(patches).picture
    monkeypatch.setattr(type(patches), "picture", lambda self, image: read.append(image.id) or picture(self, image))
    limited(model, monkeypatch, lambda: 2)
    parted = build_index(model, patches, tmp_path / "parted", plan)
    assert taken == [2, 2, 1]
    assert len(read) == len(set(read)) == 5
    (one,), (other,) = whole.shards(), parted.shards()
    torch.testing.assert_close(other.batch.latents, one.batch.latents, rtol=2e-3, atol=2e-3)  # a last bit of float16
    torch.testing.assert_close(other.base_losses, one.base_losses, rtol=1e-3, atol=0)
    for name, squares in whole.fisher().items():
        torch.testing.assert_close(parted.fisher()[name], squares, rtol=2e-2, atol=float(squares.mean()) * 2e-2)


@pytest.mark.parametrize(
    ("device", "side", "expected"), [("cpu", 64, 64), ("cpu", 512, 1), ("cuda", 512, 8), ("cuda", 1024, 2)]
)
def test_fewer_large_pictures_are_encoded_at_once(device: str, side: int, expected: int):
    class Sized:
        spec = ModelSpec("sized", device=device)
        picture_size = side

    assert Build(Sized(), None, None, None, None, None)._encoding.most == expected
