"""Families of rectified flow, and unconditional diffusion, on tiny pipelines of their real classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from forwardinf.draws import DrawPlan
from forwardinf.errors import InvalidSettings, UnsupportedModel
from forwardinf.gradients.per_example import weight_gradients
from forwardinf.models.ddpm import UnconditionalDiffusion
from forwardinf.models.flow_latents import FlowTransformer, pack, unpack
from forwardinf.models.flux import Flux
from forwardinf.models.flux2 import Flux2Klein
from forwardinf.models.generation import GenerationRequest
from forwardinf.models.protocol import CaptionedPicture
from forwardinf.models.qwen_image import QwenImage
from forwardinf.models.registry import load_model
from forwardinf.models.sd3 import StableDiffusion3
from forwardinf.models.z_image import ZImage
from forwardinf.types import Draws, LatentBatch, ModelSpec
from tiny_families import FAMILIES, SIDE, tiny

CLASSES = {
    "sd3": StableDiffusion3, "flux": Flux, "flux2": Flux2Klein, "qwen_image": QwenImage, "z_image": ZImage,
    "ddpm": UnconditionalDiffusion,
}  # fmt: skip
FLOWS = [family for family in FAMILIES if family != "ddpm"]
each_family, each_flow = pytest.mark.parametrize("family", FAMILIES), pytest.mark.parametrize("family", FLOWS)
PROMPTS = ("red apple", "green pear patch 12")
UNGUIDED = {"sd3": {"guidance_scale": 1.0}, "flux": {"guidance_scale": 3.5}, "flux2": {"guidance_scale": 1.0},
            "qwen_image": {"true_cfg_scale": 1.0}, "z_image": {"guidance_scale": 0.0}}  # fmt: skip
Model = FlowTransformer | UnconditionalDiffusion


def spec(folder: str = "tiny", **told: Any) -> ModelSpec:
    return ModelSpec(folder, **{"picture_size": SIDE, **told})


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {family: CLASSES[family](tiny(family), spec()) for family in FAMILIES}


def square(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def batch_of(model: Model, *prompts: str) -> LatentBatch:
    return model.encode([CaptionedPicture(str(n), square(n), prompt) for n, prompt in enumerate(prompts)])


def draws_of(batch: LatentBatch, count: int = 2) -> Draws:
    return DrawPlan(0, count).draws(batch.example_ids, batch.latents.shape[1:])


def as_given(family: str, x: torch.Tensor) -> torch.Tensor:
    """Latents as a pipeline takes them."""
    return pack(x) if family in ("flux", "qwen_image") else x


@each_flow
def test_a_transformer_is_told_what_its_pipeline_tells_it(family: str, models: dict[str, Model]):
    """At σ = 1, where what is denoised is noise alone."""
    model, told = models[family], list[dict[str, Any]]()
    hook = model.denoiser.register_forward_pre_hook(
        lambda _network, given, named: told.append({**dict(enumerate(given)), **named}), with_kwargs=True
    )
    batch = batch_of(model, PROMPTS[1])
    draws = Draws(torch.tensor([[1 - 2**-20]]), draws_of(batch, 1).noise)
    with torch.no_grad():
        model.loss(batch, draws)
        model.pipeline(
            prompt=PROMPTS[1],
            latents=as_given(family, draws.noise[0]),
            height=SIDE,
            width=SIDE,
            num_inference_steps=2,
            output_type="latent",
            **UNGUIDED[family],
        )
    hook.remove()
    ours, theirs, _ = told
    for name, given in ours.items():
        torch.testing.assert_close(given, theirs[name], msg=lambda text, name=name: f"{name}: {text}")
    unheard = {name for name in theirs.keys() - ours.keys() if theirs[name]}
    assert unheard <= {"return_dict", "attention_kwargs", "joint_attention_kwargs"}


@each_flow
def test_a_pipeline_decodes_what_was_encoded(family: str, models: dict[str, Model], monkeypatch: pytest.MonkeyPatch):
    """With a transformer that says that nothing moves, latents come out as they were put in."""
    model, vae = models[family], models[family].pipeline.vae
    still = model.denoiser.forward

    def nothing_moves(*given: Any, **named: Any) -> Any:
        output = still(*given, **named)
        output = output[0]
        return ([torch.zeros_like(o) for o in output] if isinstance(output, list) else torch.zeros_like(output),)

    monkeypatch.setattr(model.denoiser, "forward", nothing_moves)
    batch = batch_of(model, "red apple")
    shown = model.pipeline(
        prompt="red apple",
        latents=as_given(family, batch.latents),
        height=SIDE,
        width=SIDE,
        num_inference_steps=2,
        output_type="pt",
        **UNGUIDED[family],
    ).images[0]
    x = torch.from_numpy(np.asarray(square(0), dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.no_grad():
        z = vae.encode(x.unsqueeze(2) if family == "qwen_image" else x).latent_dist.mean
        expected = vae.decode(z).sample
    expected = expected[:, :, 0] if family == "qwen_image" else expected
    torch.testing.assert_close(shown, (expected[0] / 2 + 0.5).clamp(0, 1), atol=1e-4, rtol=1e-4)


@each_family
def test_losses_are_those_of_the_closed_form(family: str, models: dict[str, Model], monkeypatch: pytest.MonkeyPatch):
    """Of a network that always predicts the same: for a flow |c − (ε − x_0)|², for DDPM |c − ε|²."""
    model = models[family]
    batch = batch_of(model, *PROMPTS)
    draws, x_0 = draws_of(batch), batch.latents[:, None]
    seen = list[torch.Tensor]()

    def constant(x_t: torch.Tensor, t: torch.Tensor, *read: torch.Tensor) -> torch.Tensor:
        seen.extend([x_t, t])
        return torch.full_like(x_t, 0.25)

    monkeypatch.setattr(model, "_predicted", constant)
    loss, size = model.loss_and_size(batch, draws)
    target = draws.noise if family == "ddpm" else draws.noise - x_0
    torch.testing.assert_close(loss, (0.25 - target).square().mean(dim=(2, 3, 4)))
    torch.testing.assert_close(size, torch.full((2, 2), 0.0625))
    if family != "ddpm":
        sigma = (seen[1] / 1000).view(2, 2, 1, 1, 1)
        torch.testing.assert_close(seen[0].view_as(draws.noise), (1 - sigma) * x_0 + sigma * draws.noise)


def test_of_z_image_the_negative_of_what_it_predicts_is_the_velocity(models: dict[str, Model]):
    model = models["z_image"]
    batch = batch_of(model, "red apple")
    raw = list[torch.Tensor]()
    hook = model.denoiser.register_forward_hook(lambda _network, _given, output: raw.append(output.sample[0]))
    with torch.no_grad():
        predicted = model.prediction(batch, draws_of(batch, 1))[0, 0]
    hook.remove()
    torch.testing.assert_close(predicted, -raw[0].squeeze(1))


@each_family
def test_a_row_does_not_depend_on_the_others_of_its_batch(family: str, models: dict[str, Model]):
    """Also not on how long their prompts are."""
    model = models[family]
    batch = batch_of(model, *PROMPTS)
    draws = draws_of(batch)
    with torch.no_grad():
        both = model.loss(batch, draws)
        alone = [model.loss(batch.rows(n, n + 1), draws.part(slice(n, n + 1), slice(None))) for n in range(2)]
    torch.testing.assert_close(both, torch.cat(alone), atol=1e-4, rtol=1e-4)


@each_flow
def test_losses_depend_on_the_prompt_and_those_of_an_unconditional_model_do_not(family: str, models: dict[str, Model]):
    for name, differs in ((family, True), ("ddpm", False)):
        model = models[name]
        batch, other = batch_of(model, "red apple"), batch_of(model, "green pear")
        with torch.no_grad():
            found = model.loss(batch, draws_of(batch)) - model.loss(other, draws_of(batch))
        assert bool(found.any()) is differs


@each_family
def test_it_is_saved_loaded_and_draws(family: str, tmp_path: Path):
    tiny(family).save_pretrained(tmp_path / family)
    model = load_model(spec(str(tmp_path / family), tunable="attention"))
    assert type(model) is CLASSES[family]
    assert model.fingerprint == CLASSES[family](tiny(family), spec()).fingerprint
    assert model.fingerprint != CLASSES[family](tiny(family, seed=1), spec()).fingerprint
    steps = list[int]()
    drawn = model.generate(GenerationRequest("red apple", steps=2), lambda done, total: steps.append(done))
    assert drawn.size == (SIDE, SIDE)
    assert steps == [1, 2]
    assert model.generate(GenerationRequest("red apple", steps=2)).tobytes() == drawn.tobytes()
    assert 0 < len(model.tunable_parameters()) < len(list(model.denoiser.parameters()))
    features = model.features(batch_of(model, *PROMPTS).latents)
    assert features.shape == (2, 256)
    assert not torch.allclose(features[0], features[1])


@each_flow
def test_text_reaches_a_picture_by_the_keys_and_values_that_a_query_may_move(family: str):
    model = CLASSES[family](tiny(family), spec(tunable="cross-attention k,v"))
    batch = batch_of(model, "red apple")
    model.loss(batch, draws_of(batch)).mean().backward()
    moved = model.tunable_parameters()
    assert all(p.grad is not None and p.grad.any() for p in moved.values())
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in moved} == (
        {"to_k", "to_v"} if family == "z_image" else {"add_k_proj", "add_v_proj"}
    )


@each_flow
def test_every_weight_has_a_gradient_also_one_that_no_loss_depends_on(family: str, models: dict[str, Model]):
    """In some families nothing reads what the last block makes of the text, or how that asks."""
    batch = batch_of(models[family], "red apple")
    gradients = weight_gradients(models[family], models[family].loss(batch, draws_of(batch)).mean())
    assert gradients.keys() == models[family].tunable_parameters().keys()
    idle = {name for name, gradient in gradients.items() if not gradient.any()}
    assert bool(idle) is (family in ("sd3", "qwen_image")), idle


@each_family
def test_gradients_that_save_memory_are_the_same(family: str, models: dict[str, Model]):
    model = CLASSES[family](tiny(family), spec())
    batch = batch_of(model, "red apple")
    assert model.save_memory()
    assert not model.save_memory()
    saving, whole = (weight_gradients(m, m.loss(batch, draws_of(batch)).mean()) for m in (model, models[family]))
    for name, gradient in whole.items():
        torch.testing.assert_close(saving[name], gradient, atol=1e-5, rtol=1e-3)


@each_flow
def test_in_half_precision_losses_are_about_the_same(family: str, models: dict[str, Model]):
    half = CLASSES[family](tiny(family), spec(dtype="float16", tunable="cross-attention k,v"))
    assert half.fingerprint == models[family].fingerprint
    batch = batch_of(models[family], *PROMPTS)
    with torch.no_grad():
        exact, rough = (model.loss(batch, draws_of(batch)) for model in (models[family], half))
    torch.testing.assert_close(rough, exact, atol=0.05, rtol=0.05)
    assert half.encode_image([square(0)]).isfinite().all()
    torch.testing.assert_close(half.encode_image([square(0)]), batch.latents[:1], atol=0.02, rtol=0.02)


def test_tokens_are_packed_as_the_pipelines_do_and_unpacked_again():
    x = torch.randn(2, 4, 8, 6)
    pipeline = tiny("flux")
    assert torch.equal(pack(x), pipeline._pack_latents(x, 2, 4, 8, 6))
    assert torch.equal(unpack(pack(x), 8), x)


def test_the_guidance_at_which_losses_are_taken_counts_and_schnell_has_none(models: dict[str, Model]):
    dev, schnell = models["flux"], Flux(tiny("flux", guidance=False), spec())
    assert dev._deciding()["guidance"] == 3.5
    assert "guidance" not in schnell._deciding()
    assert [reader.length for reader in dev._readers] == [24, 512]
    assert [reader.length for reader in schnell._readers] == [24, 256]


def test_sd3_without_t5_reads_zeros_in_its_place():
    model = StableDiffusion3(tiny("sd3", t5=False), spec())
    hidden, pooled = model._read(model.encode_prompt(["red apple"]))
    expected, _, told, _ = model.pipeline.encode_prompt("red apple", None, None, device="cpu")
    assert hidden.shape == (1, 24 + 256, 24)
    torch.testing.assert_close(hidden, expected)
    torch.testing.assert_close(pooled, told)


@pytest.mark.parametrize("family", FLOWS)
def test_the_end_of_a_prompt_that_is_too_long_is_told(family: str, models: dict[str, Model]):
    assert models[family].unread_text("red apple") == ""
    prompt = "red apple " * 600
    unread = models[family].unread_text(prompt)
    assert 0 < len(unread) < len(prompt)
    assert prompt.endswith(unread)


def test_an_unconditional_model_reads_nothing_of_a_prompt(models: dict[str, Model]):
    assert models["ddpm"].unread_text("red apple") == "red apple"
    assert models["ddpm"].encode_prompt(["red apple", ""]).shape == (2, 0)


def altered(family: str, component: str, **config: Any) -> Any:
    pipeline = tiny(family)
    getattr(pipeline, component).register_to_config(**config)
    return pipeline


@pytest.mark.parametrize(
    ("family", "component", "config"),
    [
        ("sd3", "vae", {"scaling_factor": 2.0}),
        ("flux", "vae", {"shift_factor": 0.5}),
        ("qwen_image", "vae", {"latents_mean": [0.0, 0.0, 0.0, 0.0]}),
        ("flux2", "vae", {"batch_norm_eps": 0.01}),
        ("sd3", "scheduler", {"shift": 1.0}),
        ("flux", "scheduler", {"max_shift": 2.0}),
        ("ddpm", "scheduler", {"beta_end": 0.01}),
    ],
)
def test_what_decides_a_loss_is_in_the_fingerprint(
    family: str, component: str, config: dict[str, Any], models: dict[str, Model]
):
    assert CLASSES[family](altered(family, component, **config), spec()).fingerprint != models[family].fingerprint


def test_statistics_of_the_autoencoder_and_the_pictures_size_are_in_the_fingerprint(models: dict[str, Model]):
    pipeline = tiny("flux2")
    pipeline.vae.bn.running_mean.add_(0.1)
    assert Flux2Klein(pipeline, spec()).fingerprint != models["flux2"].fingerprint
    for family in ("flux", "ddpm"):
        assert CLASSES[family](tiny(family), spec(picture_size=32)).fingerprint != models[family].fingerprint


def test_the_size_is_as_the_checkpoint_says_or_as_named():
    assert Flux(tiny("flux"), spec(picture_size=None)).picture_size == SIDE
    assert StableDiffusion3(tiny("sd3"), spec(picture_size=None)).picture_size == SIDE
    assert QwenImage(tiny("qwen_image"), spec(picture_size=None)).picture_size == 1024
    with pytest.raises(InvalidSettings, match=r"18 × 18 do not fit this model.*multiple of 4"):
        Flux(tiny("flux"), spec(picture_size=18))


@pytest.mark.parametrize(
    ("family", "component", "config", "told"),
    [
        ("sd3", "transformer", {"in_channels": 9}, "takes 9 channels, but the autoencoder's latents give 4"),
        ("flux", "transformer", {"in_channels": 96}, "takes 96 channels.*inpainting, editing"),
        ("flux", "transformer", {"joint_attention_dim": 32}, "reads 32 numbers of text.*give 24"),
        ("flux", "vae", {"latents_mean": [0.0] * 4}, "latents_mean"),
        ("flux", "vae", {"shift_factor": None}, "shift_factor"),
        ("flux2", "transformer", {"guidance_embeds": True}, "guidance_embeds"),
        ("qwen_image", "transformer", {"zero_cond_t": True}, "editing.*zero_cond_t"),
        ("z_image", "transformer", {"siglip_feat_dim": 8}, "siglip_feat_dim"),
        ("sd3", "scheduler", {"invert_sigmas": True}, "no rectified flow"),
        ("ddpm", "unet", {"out_channels": 6}, "predicts 6"),
        ("ddpm", "unet", {"num_class_embeds": 10}, "num_class_embeds"),
        ("ddpm", "unet", {"center_input_sample": True}, "center_input_sample"),
    ],
)
def test_what_is_not_honoured_is_refused(family: str, component: str, config: dict[str, Any], told: str):
    with pytest.raises(UnsupportedModel, match=told):
        CLASSES[family](altered(family, component, **config), spec())


@each_family
def test_pictures_of_another_shape_have_losses_and_features(family: str, models: dict[str, Model]):
    """As buckets give them; those of a picture that lies on its side are not those of the upright one."""
    model = models[family]
    upright = square(3).resize((SIDE // 2, 2 * SIDE))
    found = []
    for picture in (upright, upright.transpose(Image.Transpose.ROTATE_90)):
        latents = model.encode_image([picture])
        batch = LatentBatch(("a",), latents, model.encode_prompt(["red apple"]))
        with torch.no_grad():
            found.append(model.loss(batch, draws_of(batch)))
        assert model.features(latents).shape == (1, 256)
    assert found[0].isfinite().all()
    assert latents.shape[-1] == 4 * latents.shape[-2]
    assert not torch.equal(*found)
