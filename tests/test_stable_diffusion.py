from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from conftest import tiny_pipeline
from forwardinf.draws import DrawPlan
from forwardinf.errors import DamagedAsset, InvalidRequest, MissingAsset, UnsupportedModel
from forwardinf.files import manifest
from forwardinf.models.generation import GenerationRequest
from forwardinf.models.registry import load_model
from forwardinf.models.sd import StableDiffusion
from forwardinf.types import Draws, LatentBatch, ModelSpec

SHAPE = (4, 8, 8)


def batch_of(model: StableDiffusion, count: int) -> LatentBatch:
    ids = tuple(f"image-{i}" for i in range(count))
    latents = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))
    return LatentBatch(ids, latents, model.encode_prompt([f"red apple {i}" for i in ids]))


def weights_of(model: StableDiffusion) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.unet.named_parameters()}


@pytest.mark.parametrize(
    ("prediction_type", "closed_form"),
    [
        ("epsilon", lambda x_0, eps, a: eps),
        ("v_prediction", lambda x_0, eps, a: a**0.5 * eps - (1 - a) ** 0.5 * x_0),
        ("sample", lambda x_0, eps, a: x_0),
    ],
)
def test_the_loss_is_the_squared_distance_to_the_schedulers_target(
    monkeypatch: pytest.MonkeyPatch, prediction_type: str, closed_form: object
):
    model = StableDiffusion(tiny_pipeline(prediction_type), ModelSpec("tiny"))
    seen: list[torch.Tensor] = []

    def answers_nothing(x_t: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> SimpleNamespace:
        seen.extend([x_t, t])
        return SimpleNamespace(sample=torch.zeros_like(x_t))

    monkeypatch.setattr(model.unet, "forward", answers_nothing)
    batch = batch_of(model, 1)
    noise = torch.randn(1, 2, *SHAPE, generator=torch.Generator().manual_seed(2))
    loss = model.loss(batch, Draws(torch.tensor([[0.2501, 0.9999]]), noise))
    assert seen[1].tolist() == [250, 999]
    for k, t in enumerate([250, 999]):
        a = float(model.pipeline.scheduler.alphas_cumprod[t])
        x_0, eps = batch.latents[0], noise[0, k]
        torch.testing.assert_close(seen[0][k], a**0.5 * x_0 + (1 - a) ** 0.5 * eps)
        torch.testing.assert_close(loss[0, k], closed_form(x_0, eps, a).square().mean())


def test_a_prediction_is_what_the_loss_is_taken_of():
    model = StableDiffusion(tiny_pipeline("epsilon"), ModelSpec("tiny"))
    batch, noise = batch_of(model, 2), torch.randn(2, 3, *SHAPE, generator=torch.Generator().manual_seed(2))
    draws = Draws(torch.rand(2, 3, generator=torch.Generator().manual_seed(3)), noise)
    predicted = model.prediction(batch, draws)
    assert predicted.shape == noise.shape
    torch.testing.assert_close((predicted - noise).square().mean(dim=(2, 3, 4)), model.loss(batch, draws))


def test_losses_do_not_depend_on_the_batch_they_are_taken_in(tiny_model: StableDiffusion):
    plan, whole = DrawPlan(0, 3), batch_of(tiny_model, 5)
    with torch.no_grad():
        together = tiny_model.loss(whole, plan.draws(whole.example_ids, SHAPE))
        for i in (4, 0, 2):
            one = LatentBatch(whole.example_ids[i : i + 1], whole.latents[i : i + 1], whole.conditioning[i : i + 1])
            alone = tiny_model.loss(one, plan.draws(one.example_ids, SHAPE))
            torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-6)


def test_the_loss_reaches_every_tunable_weight_and_no_other(tiny_model: StableDiffusion):
    batch = batch_of(tiny_model, 1)
    tiny_model.loss(batch, DrawPlan(0, 2).draws(batch.example_ids, SHAPE)).mean().backward()
    tunable = tiny_model.tunable_parameters()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tunable.values())
    assert all(p.grad is None for name, p in tiny_model.unet.named_parameters() if name not in tunable)


def test_deltas_move_the_weights_inside_and_are_gone_bit_for_bit_after_a_failure(tiny_model: StableDiffusion):
    before = weights_of(tiny_model)
    deltas = {name: torch.full_like(p, 1e-3) for name, p in tiny_model.tunable_parameters().items()}

    def move_and_fail() -> None:
        with tiny_model.with_deltas(deltas):
            assert all(not torch.equal(tiny_model.tunable_parameters()[name], before[name]) for name in deltas)
            raise RuntimeError("cancelled")

    with pytest.raises(RuntimeError, match="cancelled"):
        move_and_fail()
    assert all(torch.equal(p, before[name]) for name, p in tiny_model.unet.named_parameters())


@pytest.mark.parametrize(
    ("pattern", "part"), [("cross-attention k,v", "attn2.to_"), ("attention", ".attn"), (r"mid_block\.", "mid_block.")]
)
def test_a_pattern_chooses_the_tunable_weights(pattern: str, part: str):
    model = StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable=pattern))
    assert model.tunable_parameters()
    assert all(part in name for name in model.tunable_parameters())


@pytest.mark.parametrize("pattern", ["no such weight", "(("])
def test_a_pattern_that_chooses_nothing_is_refused(pattern: str):
    with pytest.raises(InvalidRequest):
        StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable=pattern))


def test_an_unknown_target_is_refused():
    pipeline = tiny_pipeline()
    pipeline.scheduler.register_to_config(prediction_type="flow")
    with pytest.raises(UnsupportedModel, match="flow"):
        StableDiffusion(pipeline, ModelSpec("tiny"))


def test_the_fingerprint_is_the_same_on_every_kind_of_processor(tiny_checkpoint: Path):
    program = (
        "from forwardinf.models.registry import load_model; from forwardinf.types import ModelSpec; import sys; "
        "print(load_model(ModelSpec(sys.argv[1])).fingerprint)"
    )
    # Here with vector instructions, there without: the last bits of what they compute differ.
    told = subprocess.run(
        [sys.executable, "-c", program, str(tiny_checkpoint)],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default"},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert told.strip() == load_model(ModelSpec(str(tiny_checkpoint))).fingerprint
    assert len(told.strip()) == 64


def test_the_fingerprint_follows_the_weights():
    same, other = (StableDiffusion(tiny_pipeline(seed=s), ModelSpec("tiny")).fingerprint for s in (0, 1))
    assert StableDiffusion(tiny_pipeline(), ModelSpec("tiny")).fingerprint == same != other


def test_a_request_draws_the_same_picture_twice_and_reports_each_step(tiny_model: StableDiffusion):
    steps: list[tuple[int, int]] = []
    request = GenerationRequest("red apple", seed=7, steps=3)
    first = tiny_model.generate(request, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert first.size == (16, 16)
    assert first.tobytes() == tiny_model.generate(request).tobytes()
    assert first.tobytes() != tiny_model.generate(GenerationRequest("red apple", seed=8, steps=3)).tobytes()


def test_a_picture_becomes_its_posterior_mean(tiny_model: StableDiffusion):
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    latents = tiny_model.encode_image([red, red])
    pixels = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    mean = tiny_model.vae.encode(pixels).latent_dist.mean * tiny_model.vae.config.scaling_factor
    torch.testing.assert_close(latents, mean.expand(2, -1, -1, -1))


def test_what_the_text_encoder_cannot_read_is_told(tiny_model: StableDiffusion):
    assert tiny_model.unread_text("red apple") == ""
    assert tiny_model.unread_text("apple " * 22 + "the end").strip() == "the end"


def test_a_saved_checkpoint_loads_and_a_damaged_one_is_refused(tiny_checkpoint: Path, tmp_path: Path):
    assert load_model(ModelSpec(str(tiny_checkpoint))).fingerprint
    folder = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, folder)
    manifest.write_manifest(folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DamagedAsset, match="diffusion_pytorch_model"):
        load_model(ModelSpec(str(folder)))
    (folder / manifest.NAME).unlink()
    whole = weights.read_bytes()
    for damaged in (b"not safetensors", whole[: len(whole) // 2]):
        weights.write_bytes(damaged)
        with pytest.raises(DamagedAsset, match="model"):
            load_model(ModelSpec(str(folder)))
    weights.write_bytes(whole)
    text = folder / "text_encoder" / "model.safetensors"
    text.write_bytes(text.read_bytes()[:1000])
    with pytest.raises(DamagedAsset, match="could not be loaded"):
        load_model(ModelSpec(str(folder)))


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path):
    with pytest.raises(MissingAsset, match=r"model_index\.json"):
        load_model(ModelSpec(str(tmp_path)))
    with pytest.raises(MissingAsset, match="no model “absent”") as caught:
        load_model(ModelSpec(str(tmp_path / "absent")))
    assert str(tmp_path) not in str(caught.value)


def test_an_unknown_family_is_refused_with_those_that_exist():
    with pytest.raises(UnsupportedModel, match=r"pixels.*sd"):
        load_model(ModelSpec("x", family="pixels"))
