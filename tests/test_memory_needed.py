"""What a model and a query take is said before it is taken, and a CPU takes large latents one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import tiny_pipeline
from forwardinf.draws import DrawPlan
from forwardinf.errors import OutOfMemory
from forwardinf.gradients import per_example
from forwardinf.gradients.per_example import mean_gradient
from forwardinf.models import denoising, memory
from forwardinf.models.memory import MOVED_COPIES, available, need_of, require_memory
from forwardinf.models.registry import load_model
from forwardinf.models.sd import StableDiffusion
from forwardinf.types import Adapter, LatentBatch, ModelSpec


def numbers_of(model: StableDiffusion) -> int:
    networks = (model.unet, model.vae, model.text_encoder)
    return sum(weights.numel() for network in networks for weights in network.parameters())


@pytest.mark.parametrize("tunable", ["all", "attention", "cross-attention k,v", r"^up_blocks\."])
def test_what_is_said_are_the_weights_that_are_there(tunable: str, tiny_checkpoint: Path):
    spec = ModelSpec(str(tiny_checkpoint), tunable=tunable)
    model, need = load_model(spec), need_of(spec)
    moved = sum(weights.numel() for weights in model.tunable_parameters().values())
    assert (need.weights, need.loading, need.moved) == (4 * numbers_of(model), 4 * numbers_of(model), moved)
    assert need.query == 4 * MOVED_COPIES * moved + need.backward
    half = need_of(ModelSpec(str(tiny_checkpoint), tunable=tunable, dtype="float16"))
    assert half.weights == 2 * (numbers_of(model) - moved) + 4 * moved  # what moves stays in float32


def test_an_adapter_shrinks_what_a_query_takes(tiny_checkpoint: Path, tmp_path: Path):
    key = "lora_unet_up_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    parts = {f"{key}.lora_down.weight": torch.zeros(2, 16), f"{key}.lora_up.weight": torch.zeros(16, 2)}
    save_file(parts, tmp_path / "style.safetensors")
    adapter = Adapter(str(tmp_path / "style.safetensors"))
    need = need_of(ModelSpec(str(tiny_checkpoint), tunable="adapter", adapter=adapter))
    assert need.moved == 2 * 16 * 2


def test_networks_that_are_not_loaded_do_not_count(tiny_checkpoint: Path, tmp_path: Path):
    shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    shutil.copytree(tiny_checkpoint / "text_encoder", tmp_path / "copy" / "safety_checker")
    before, after = (need_of(ModelSpec(str(folder))) for folder in (tiny_checkpoint, tmp_path / "copy"))
    assert after.weights == before.weights
    unet = {f"model.diffusion_model.{n}": torch.zeros(4, 4, 3, 3) for n in ("input_blocks.0.0.weight", "b", "c")}
    averaged = {name.replace("model.", "model_ema.", 1): value.clone() for name, value in unet.items()}
    for number, weights in enumerate((unet, unet | averaged)):
        save_file(weights, tmp_path / f"{number}.safetensors")
        assert need_of(ModelSpec(str(tmp_path / f"{number}.safetensors"))).weights == 4 * 3 * 144


def test_nothing_is_said_of_what_is_not_at_hand(tmp_path: Path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    for checkpoint in ("someone/model", str(tmp_path), str(tmp_path / "broken.safetensors")):
        assert need_of(ModelSpec(checkpoint)) is None


@pytest.mark.parametrize(
    ("free", "tunable", "told"),
    [
        (1000, "all", r"takes about .* query .* beside it.*0\.0 GiB are free.*--tunable “cross-attention k,v”"),
        (1000, "attention", r"GiB are free\. Try a machine with more"),
    ],
)
def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(
    free: int, tunable: str, told: str, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(memory, "available", lambda device: free)
    with pytest.raises(OutOfMemory, match=told):
        load_model(ModelSpec(str(tiny_checkpoint), tunable=tunable))


def test_one_that_fits_or_of_which_nothing_is_known_is_not(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    need = need_of(ModelSpec(str(tiny_checkpoint)))
    for free in (need.most, None):
        monkeypatch.setattr(memory, "available", lambda device, free=free: free)
        require_memory(ModelSpec(str(tiny_checkpoint)))


def test_this_machine_says_what_is_free():
    assert available("cpu") is None or 2**20 < available("cpu") < 2**50


def test_large_latents_are_taken_one_by_one_on_a_cpu(monkeypatch: pytest.MonkeyPatch):
    def gradient_of(large: int) -> tuple[list[int], torch.Tensor, dict[str, torch.Tensor], bool]:
        monkeypatch.setattr(denoising, "LARGE", large)
        monkeypatch.setattr(per_example, "LARGE", large)
        model, sizes = StableDiffusion(tiny_pipeline(), ModelSpec("tiny")), list[int]()
        monkeypatch.setattr(model, "_predicted", counting(model._predicted, sizes))
        batch = LatentBatch(("a", "b"), torch.ones(2, 4, 8, 8), model.encode_prompt(["red apple", "green pear"]))
        draws = DrawPlan(0, 3).draws(batch.example_ids, (4, 8, 8))
        with torch.no_grad():
            losses = model.loss(batch, draws)
        return sizes, losses, mean_gradient(model, model.loss, batch, draws)[1], model.unet.is_gradient_checkpointing

    def counting(predicted: Callable[..., torch.Tensor], sizes: list[int]) -> Callable[..., torch.Tensor]:
        return lambda x_t, *rest: sizes.append(len(x_t)) or predicted(x_t, *rest)

    together, alone = gradient_of(65), gradient_of(64)
    assert (together[0], together[3]) == ([6, 6], False)
    assert (alone[0], alone[3]) == ([1] * 12, True)
    torch.testing.assert_close(alone[1], together[1], rtol=1e-5, atol=1e-6)
    for name, gradient in together[2].items():
        assert (alone[2][name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-8, name
