"""Nothing is tuned for a checkpoint: untrained SD 1.5, SD 2 and SDXL of a million weights or two, default settings.

They have the layout of the real ones in small: cross-attention at every level but the last of SD, and only at the last
of SDXL, with deeper transformers. Nothing is said of ranks: networks that have learned nothing find pictures alike.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from conftest import CAPTIONS, tiny_text_config, tiny_unet, tiny_vae, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.cli.main import main
from forwardinf.config import load_settings
from forwardinf.draws import DrawPlan
from forwardinf.errors import DamagedAsset, InvalidRequest, UnsupportedModel
from forwardinf.examples.metadata import training_images
from forwardinf.gradients.per_example import gradient
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.store import Index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.methods.registry import load_method
from forwardinf.models.generation import GenerationRequest
from forwardinf.models.registry import load_model
from forwardinf.models.sd import StableDiffusion
from forwardinf.models.sdxl import StableDiffusionXL
from forwardinf.training.vocabulary import learn_tokenizer
from forwardinf.types import Draws, LatentBatch, ModelSpec

COUNT = 8
SHAPE = (4, 8, 8)
SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
WIDE = {"block_out_channels": (32, 64), "layers_per_block": 2}


def stable_diffusion(linear: bool, scheduler: object) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    tokenizer = learn_tokenizer(CAPTIONS, size=600)
    return StableDiffusionPipeline(
        vae=tiny_vae(),
        unet=tiny_unet(
            **WIDE,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            use_linear_projection=linear,
        ),
        text_encoder=CLIPTextModel(tiny_text_config(tokenizer, hidden_size=32)),
        tokenizer=tokenizer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd_15() -> StableDiffusionPipeline:
    return stable_diffusion(linear=False, scheduler=PNDMScheduler(**SCHEDULE, skip_prk_steps=True))


def sd_2() -> StableDiffusionPipeline:
    scheduler = DDIMScheduler(**SCHEDULE, prediction_type="v_prediction", clip_sample=False)
    return stable_diffusion(linear=True, scheduler=scheduler)


def sdxl() -> StableDiffusionXLPipeline:
    torch.manual_seed(0)
    tokenizer, other = learn_tokenizer(CAPTIONS, size=600), learn_tokenizer(CAPTIONS, size=590)
    second = tiny_text_config(other, hidden_size=24, projection_dim=12, num_hidden_layers=2)
    encoders = (
        CLIPTextModel(tiny_text_config(tokenizer, hidden_size=16, num_hidden_layers=2)),
        CLIPTextModelWithProjection(second),
    )
    for encoder in encoders:  # no layer norm comes after the states that are read: bring them to a trained one's size
        torch.nn.init.normal_(encoder.get_input_embeddings().weight)
    return StableDiffusionXLPipeline(
        vae=tiny_vae(),
        unet=tiny_unet(
            **WIDE,
            cross_attention_dim=16 + 24,
            use_linear_projection=True,
            transformer_layers_per_block=(1, 2),
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + 12,
        ),
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=tokenizer,
        tokenizer_2=other,
        scheduler=EulerDiscreteScheduler(**SCHEDULE),
        add_watermarker=False,
    )


KINDS: dict[str, Callable[[], DiffusionPipeline]] = {"sd_15": sd_15, "sd_2": sd_2, "sdxl": sdxl}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="session")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"), COUNT)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, make in KINDS.items():
        make().save_pretrained(folder / name)
    return {name: folder / name for name in KINDS}


def attributor_of(checkpoint: Path, patches: Path, out: Path, dtype: str = "float32") -> Attributor:
    model = load_model(ModelSpec(str(checkpoint), dtype=dtype))
    return Attributor(model, build_index(model, training_images(patches), out, BuildPlan(draws=8)))


def picture(patches: Path, number: int) -> Image.Image:
    return Image.open(patches / f"{number:02}.png").convert("RGB")


def weights_of(model: StableDiffusion | StableDiffusionXL) -> list[torch.Tensor]:
    networks = [part for part in model.pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return [weights.clone() for network in networks for weights in network.state_dict().values()]


@each_kind
def test_default_settings_carry_over(kind: str, checkpoints: dict[str, Path], patches: Path, tmp_path: Path):
    attributor = attributor_of(checkpoints[kind], patches, tmp_path / "index")
    before = weights_of(attributor.model)
    for number in range(COUNT):
        *_, last = attributor.follow(attributor.query(picture(patches, number), f"patch {number}"))
        assert last.state.loss_after / last.state.loss_before - 1 == pytest.approx(0.1, rel=0.051)
        scores = last.scores()
        assert len(scores.example_ids) == COUNT
        assert scores.per_draw.isfinite().all()
        assert scores.scores.max() > scores.scores.min()
    query = attributor.query(picture(patches, 0), "patch 0")
    *_, sized = attributor.follow(query, ForwardInf(size_draws=2))
    draws = attributor.index.info.plan.draws([query.id], query.latents.shape[1:])
    with torch.no_grad():
        size = float(attributor.model.loss_and_size(query.batch(), draws)[1].mean())
        with attributor.model.with_deltas(sized.state.rounds[-1].deltas):
            assert float(attributor.model.loss_and_size(query.batch(), draws)[1].mean()) / size - 1 == pytest.approx(
                0.03, rel=0.051
            )
    assert sized.scores().per_draw.isfinite().all()
    assert all(torch.equal(a, b) for a, b in zip(weights_of(attributor.model), before, strict=True))


def test_default_settings_carry_over_to_half_precision(checkpoints: dict[str, Path], patches: Path, tmp_path: Path):
    attributor = attributor_of(checkpoints["sd_15"], patches, tmp_path / "index", "float16")
    before = weights_of(attributor.model)
    assert all(squares.dtype == torch.float32 and squares.any() for squares in attributor.index.fisher().values())
    *_, last = attributor.follow(attributor.query(picture(patches, 3), "patch 3"))
    assert last.state.loss_after / last.state.loss_before - 1 == pytest.approx(0.1, rel=0.051)
    assert last.scores().per_draw.isfinite().all()
    assert all(torch.equal(a, b) for a, b in zip(weights_of(attributor.model), before, strict=True))


def test_gradients_of_a_float16_model_are_those_of_the_whole_one(checkpoints: dict[str, Path]):
    found = []
    for dtype in ("float32", "float16"):
        model = load_model(ModelSpec(str(checkpoints["sd_15"]), dtype=dtype, tunable="all"))
        batch, draws = batch_of(model, "red apple")
        # As small as a mean over a picture of 512 pixels makes what flows back.
        found.append(gradient(model, lambda *asked, loss=model.loss: loss(*asked) * 2**-10, batch, draws))
    whole, half = found
    assert half.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(whole, half, dim=0) > 0.999


def test_tracin_is_refused_where_its_step_would_be_rounded_away(
    checkpoints: dict[str, Path], patches: Path, tmp_path: Path
):
    attributor = attributor_of(checkpoints["sd_15"], patches, tmp_path / "index", "float16")
    with pytest.raises(InvalidRequest, match="tracin needs a model in float32, and this one is in float16"):
        attributor.prepare(attributor.query(picture(patches, 0), "patch 0"), load_method("tracin"))


def batch_of(model: StableDiffusion | StableDiffusionXL, *prompts: str) -> tuple[LatentBatch, Draws]:
    latents = torch.randn(len(prompts), *SHAPE, generator=torch.Generator().manual_seed(1))
    batch = LatentBatch(tuple(map(str, range(len(prompts)))), latents, model.encode_prompt(prompts))
    return batch, DrawPlan(0, 2).draws(batch.example_ids, SHAPE)


@each_kind
def test_a_loss_beyond_half_precision_is_right(kind: str, checkpoints: dict[str, Path]):
    whole, half = (load_model(ModelSpec(str(checkpoints[kind]), dtype=kept)) for kept in ("float32", "float16"))
    for model in (whole, half):
        model.unet.conv_out.weight.data.mul_(1000)
    with torch.no_grad():
        exact, rough = (model.loss(*batch_of(model, "red apple", "green pear")) for model in (whole, half))
    assert rough.dtype == torch.float32
    assert rough.shape == (2, 2)
    assert exact.min() > torch.finfo(torch.float16).max
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0)


def test_sdxl_is_told_what_its_pipeline_would_tell_it(monkeypatch: pytest.MonkeyPatch):
    model = StableDiffusionXL(sdxl(), ModelSpec("tiny"))
    seen: list[object] = []

    def answers_nothing(x_t: torch.Tensor, *asked: object, added_cond_kwargs: dict[str, torch.Tensor]) -> object:
        seen.extend([x_t, *asked, added_cond_kwargs])
        return type("Answer", (), {"sample": torch.zeros_like(x_t)})

    monkeypatch.setattr(model.unet, "forward", answers_nothing)
    batch, draws = batch_of(model, "red apple", "")
    assert batch.conditioning.shape == (2, 2, 24)
    loss = model.loss(batch, draws)
    x_t, t, hidden, told = seen
    prompted, empty, pooled, empty_pooled = model.pipeline.encode_prompt("red apple", device="cpu")
    assert not empty.any()
    torch.testing.assert_close(hidden, torch.cat([prompted, prompted, empty, empty]))
    torch.testing.assert_close(told["text_embeds"], torch.cat([pooled, pooled, empty_pooled, empty_pooled]))
    assert told["time_ids"].tolist() == [[16, 16, 0, 0, 16, 16]] * 4
    alpha = model.pipeline.scheduler.alphas_cumprod[t].view(2, 2, 1, 1, 1)
    noised = alpha.sqrt() * batch.latents[:, None] + (1 - alpha).sqrt() * draws.noise
    torch.testing.assert_close(x_t.view(2, 2, *SHAPE), noised)
    torch.testing.assert_close(loss, draws.noise.square().mean(dim=(2, 3, 4)))


def test_sdxl_reads_an_empty_prompt_where_it_was_trained_to(checkpoints: dict[str, Path]):
    model = load_model(ModelSpec(str(checkpoints["sdxl"])))
    zeros = model.fingerprint
    model.pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    reading = StableDiffusionXL(model.pipeline, model.spec)
    assert reading.fingerprint != zeros
    _, empty, _, pooled = model.pipeline.encode_prompt("red apple", device="cpu")
    hidden, told = reading._read(reading.encode_prompt([""]))
    assert empty.any()
    torch.testing.assert_close(hidden, empty)
    torch.testing.assert_close(told, pooled)


def test_sdxl_heeds_the_pooled_embedding_and_the_size(checkpoints: dict[str, Path]):
    model = load_model(ModelSpec(str(checkpoints["sdxl"])))
    batch, draws = batch_of(model, "red apple")
    with torch.no_grad():
        before = model.prediction(batch, draws)
        assert torch.equal(model.prediction(batch, draws), before)
        model.pipeline.vae_scale_factor *= 2  # as pictures of double the size have such latents then
        assert not torch.allclose(model.prediction(batch, draws), before, atol=1e-4)
        model.pipeline.vae_scale_factor //= 2
        model.pipeline.text_encoder_2.text_projection.weight.neg_()
        assert not torch.allclose(model.prediction(batch, draws), before, atol=1e-4)


def test_sdxl_encodes_pictures_in_full_precision(checkpoints: dict[str, Path], patches: Path):
    model = load_model(ModelSpec(str(checkpoints["sdxl"]), dtype="float16"))
    model.vae.encoder.conv_in.weight.data.fill_(30_000)
    before = weights_of(model)
    squares = [picture(patches, 0).resize((16, 16))]
    latents = model.encode_image(squares)
    assert latents.isfinite().all()
    assert all(torch.equal(a, b) for a, b in zip(weights_of(model), before, strict=True))
    model.vae.register_to_config(force_upcast=False)
    assert not model.encode_image(squares).isfinite().all()


def test_sdxl_draws_the_same_picture_twice(checkpoints: dict[str, Path]):
    model = load_model(ModelSpec(str(checkpoints["sdxl"])))
    drawn = model.generate(GenerationRequest("red apple", seed=7, steps=2))
    assert drawn.size == (16, 16)
    assert drawn.tobytes() == model.generate(GenerationRequest("red apple", seed=7, steps=2)).tobytes()
    assert drawn.tobytes() != model.generate(GenerationRequest("green pear", seed=7, steps=2)).tobytes()


def test_the_command_line_needs_no_family(
    checkpoints: dict[str, Path],
    patches: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    index, model = str(tmp_path / "index"), ("--model", str(checkpoints["sdxl"]))
    for arguments in (
        ["index", "build", str(patches), "--out", index, "--draws", "2", *model],
        ["attribute", str(patches / "03.png"), "--index", index, "--prompt", "patch 3", "--json", *model],
    ):
        monkeypatch.setattr(sys, "argv", ["forwardinf", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    assert len(json.loads(capsys.readouterr().out)["results"]) == COUNT
    (shard,) = Index.open(tmp_path / "index").shards()
    assert shard.batch.conditioning.shape == (COUNT, 2, 24)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_a_family_that_is_named_wins_over_the_checkpoints_word(
    family: str, checkpoints: dict[str, Path], tmp_path: Path
):
    folder = relabelled(checkpoints["sd_15" if family == "sd" else "sdxl"], tmp_path, "PaintByNumbers")
    with pytest.raises(UnsupportedModel, match=r"“renamed” is a PaintByNumbers.*StableDiffusionPipeline, Stable"):
        load_model(ModelSpec(str(folder)))
    spec = load_settings(model=str(folder), family=family).model_spec()
    assert type(load_model(spec)).__module__ == f"forwardinf.models.{family}"


def test_a_checkpoint_that_does_not_say_what_it_is_is_refused(checkpoints: dict[str, Path], tmp_path: Path):
    folder = relabelled(checkpoints["sd_15"], tmp_path, None)
    with pytest.raises(UnsupportedModel, match="names no class of pipeline"):
        load_model(ModelSpec(str(folder)))
    (folder / "model_index.json").write_text("{")
    with pytest.raises(DamagedAsset, match=r"“renamed”.*model_index\.json"):
        load_model(ModelSpec(str(folder)))


def test_what_sdxl_cannot_do_without_is_named(checkpoints: dict[str, Path], tmp_path: Path):
    refiner = sdxl()
    refiner.register_modules(text_encoder=None, tokenizer=None)
    refiner.save_pretrained(tmp_path / "refiner")
    with pytest.raises(UnsupportedModel, match="“refiner” has no text_encoder"):
        load_model(ModelSpec(str(tmp_path / "refiner")))
    plain = sdxl()
    plain.register_modules(unet=tiny_unet(cross_attention_dim=40))
    with pytest.raises(UnsupportedModel, match="text_time"):
        StableDiffusionXL(plain, ModelSpec("tiny"))
    edm = sdxl()
    edm.register_modules(scheduler=EDMEulerScheduler())
    with pytest.raises(UnsupportedModel, match="EDMEulerScheduler"):
        StableDiffusionXL(edm, ModelSpec("tiny"))


def relabelled(checkpoint: Path, tmp_path: Path, kind: str | None) -> Path:
    """A copy of a checkpoint that says it is of another class, or of none."""
    folder = tmp_path / "renamed"
    shutil.copytree(checkpoint, folder)
    index = json.loads((folder / "model_index.json").read_text())
    del index["_class_name"]
    (folder / "model_index.json").write_text(json.dumps({**index, **({"_class_name": kind} if kind else {})}))
    return folder
