"""A checkpoint in one file gives what the same model's folder gives, or is refused by what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import single_files
from conftest import write_patches
from forwardinf.cli.main import app
from forwardinf.draws import DrawPlan
from forwardinf.errors import DamagedAsset, ForwardInfError, InvalidSettings, UnsupportedModel
from forwardinf.models import single_file_pipeline
from forwardinf.models.clip_tokenizer import clip_tokenizer
from forwardinf.models.fingerprint import contents_of
from forwardinf.models.pickled import as_safetensors
from forwardinf.models.registry import load_model
from forwardinf.models.single_file import SDXL
from forwardinf.models.single_file_pipeline import networks_of
from forwardinf.models.weights_file import read_header
from forwardinf.types import LatentBatch, ModelSpec

SHIPPED = single_file_pipeline.ORIGINAL
UNET = "model.diffusion_model."


@dataclass(frozen=True)
class Pair:
    """The same untrained model as a folder and as one file."""

    folder: Path
    file: Path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    home = tmp_path_factory.mktemp("single")
    configurations = single_files.small_configurations(home / "original")
    found = {}
    for kind in single_files.KINDS:
        pipeline = single_files.pipeline_of(kind, configurations)
        pipeline.save_pretrained(home / kind)
        file = single_files.write(single_files.weights_of(kind, pipeline), home / f"{kind}.safetensors")
        found[kind] = Pair(home / kind, file)
    return found


@pytest.fixture(autouse=True)
def small(pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_file_pipeline, "ORIGINAL", pairs["sd_1"].folder.parent / "original")


def changed(
    pair: Pair, folder: Path, change: Callable[[dict[str, Tensor]], object], metadata: dict[str, str] | None = None
) -> ModelSpec:
    weights = load_file(pair.file)
    change(weights)
    return ModelSpec(str(single_files.write(weights, folder / "changed.safetensors", metadata)))


def without(beginning: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda weights: [weights.pop(name) for name in list(weights) if name.startswith(beginning)]


def only(**names: tuple[int, ...]) -> Callable[[dict[str, Tensor]], object]:
    def change(weights: dict[str, Tensor]) -> None:
        weights.clear()
        weights.update({name.replace("__", "."): torch.zeros(shape) for name, shape in names.items()})

    return change


def with_channels(count: int) -> Callable[[dict[str, Tensor]], object]:
    return lambda weights: weights.update({f"{UNET}input_blocks.0.0.weight": torch.zeros(8, count, 3, 3)})


def added(name: str, *shape: int) -> Callable[[dict[str, Tensor]], object]:
    return lambda weights: weights.update({name: torch.zeros(shape)})


@pytest.mark.parametrize("kind", single_files.KINDS)
def test_a_file_is_the_model_that_its_folder_is(kind: str, pairs: dict[str, Pair]):
    spec = ModelSpec(str(pairs[kind].file), prediction="epsilon" if kind == "sd_2" else None)
    models = [load_model(ModelSpec(str(pairs[kind].folder))), load_model(spec)]
    latents, ids, plan = torch.randn(2, 4, 8, 8), ("a", "b"), DrawPlan(0, 3)
    losses = []
    for model in models:
        batch = LatentBatch(ids, latents, model.encode_prompt(["a cat!", "Ünïcode <|endoftext|> 42 dogs"]))
        with torch.no_grad():
            losses.append(model.loss(batch, plan.draws(ids, (4, 8, 8))))
    assert torch.equal(*losses)
    assert models[0].fingerprint == models[1].fingerprint


def test_weights_in_half_precision_are_read(pairs: dict[str, Pair], tmp_path: Path):
    def halve(weights: dict[str, Tensor]) -> None:
        weights.update({name: value.half() for name, value in weights.items()})

    model = load_model(changed(pairs["sd_1"], tmp_path, halve))
    assert model.tunable_parameters()["conv_in.weight"].dtype == torch.float32
    assert model.fingerprint != load_model(ModelSpec(str(pairs["sd_1"].file))).fingerprint  # they were rounded


REFUSED: dict[str, tuple[str, Callable[[dict[str, Tensor]], object], str]] = {
    "inpainting": ("sd_1", with_channels(9), "for inpainting.*9 channels instead of 4"),
    "editing": ("sd_1", with_channels(8), "InstructPix2Pix"),
    "depth": ("sd_2", with_channels(5), "depth maps"),
    "refiner": ("sdxl", added("conditioner.embedders.0.model.ln_final.weight", 4), "refiner"),
    "Playground": ("sdxl", added("edm_mean", 4), "Playground"),
    "CosXL": ("sdxl", added("edm_vpred.sigma_max", 1), "EDM"),
    "SD 3": ("sd_1", only(model__diffusion_model__joint_blocks__0__x=(4,)), "Stable Diffusion 3.*SDXL base"),
    "FLUX": ("sd_1", only(double_blocks__0__img_attn__qkv__weight=(4,)), "FLUX"),
    "LoRA": ("sd_1", only(lora_unet_x__lora_down__weight=(4, 4)), r"is a LoRA.*--lora.*--model"),
    "ControlNet": ("sd_1", only(control_model__time_embed__0__weight=(4,)), "ControlNet"),
    "diffusers' UNet": ("sd_1", only(down_blocks__0__resnets__0__conv1__weight=(4,)), "a single network of a pipeline"),
    "textual inversion": ("sd_1", only(emb_params=(1, 4)), "textual inversion"),
    "something else": ("sd_1", only(weight=(4,)), "“weight”, and no UNet"),
    "no autoencoder": ("sd_1", without("first_stage_model."), r"1\.x without its autoencoder \(first_stage_model"),
    "no text encoder": ("sd_2", without("cond_stage_model."), r"2\.x without its text encoder"),
    "no second text encoder": ("sdxl", without("conditioner.embedders.1."), "SDXL without its text encoder"),
    "another input": ("sd_1", added(f"{UNET}noise_embed.0.weight", 4), "1 weights in its UNet.*noise_embed"),
    "motion": ("sd_1", added(f"{UNET}input_blocks.1.1.temporal.weight", 4), "1 weights in its UNet.*temporal"),
    "a wider encoder": (
        "sd_1",
        added("cond_stage_model.transformer.text_model.final_layer_norm.weight", 24),
        "final_layer_norm.weight” is 24 instead of 16",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_another_file_is_refused_by_what_it_is(kind: str, pairs: dict[str, Pair], tmp_path: Path):
    base, change, told = REFUSED[kind]
    with pytest.raises(UnsupportedModel, match=told):
        load_model(replace(changed(pairs[base], tmp_path, change), prediction="epsilon"))


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("sd_1", f"{UNET}output_blocks.11.0.in_layers.2.weight"),
        ("sdxl", f"{UNET}label_emb.0.2.bias"),
        ("sd_1", "first_stage_model.decoder.conv_out.bias"),
        ("sd_1", "cond_stage_model.transformer.text_model.encoder.layers.7.mlp.fc1.weight"),
        ("sdxl", "conditioner.embedders.1.model.transformer.resblocks.9.ln_1.bias"),
    ],
)
def test_a_file_without_some_of_its_weights_is_refused(kind: str, missing: str, pairs: dict[str, Pair], tmp_path: Path):
    with pytest.raises(DamagedAsset, match=r"lacks 1 weights of its .*Fetch it again"):
        load_model(changed(pairs[kind], tmp_path, without(missing)))


def test_a_truncated_file_a_pickle_and_a_pointer_are_told_apart(pairs: dict[str, Pair], tmp_path: Path):
    whole = pairs["sd_1"].file.read_bytes()
    torch.save({"state_dict": {"x": torch.zeros(2)}}, tmp_path / "pickle")
    contents = {
        "cut short": (whole[:-100], DamagedAsset),
        "cut short. Fetch": (b"", DamagedAsset),
        "forwardinf model safetensors": ((tmp_path / "pickle").read_bytes(), UnsupportedModel),
        "git lfs pull": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n", DamagedAsset),
    }
    for told, (content, error) in contents.items():
        (tmp_path / "model.ckpt").write_bytes(content)
        with pytest.raises(error, match=told) as caught:
            load_model(ModelSpec(str(tmp_path / "model.ckpt")))
        assert str(tmp_path) not in str(caught.value)


def test_what_version_2_predicts_has_to_be_said(pairs: dict[str, Pair], tmp_path: Path):
    pair = pairs["sd_2"]
    with pytest.raises(InvalidSettings, match=r"FORWARDINF_PREDICTION=epsilon or v_prediction"):
        load_model(ModelSpec(str(pair.file)))
    said = [load_model(ModelSpec(str(pair.file), prediction=kind)) for kind in ("epsilon", "v_prediction")]
    assert said[0].fingerprint != said[1].fingerprint
    assert [model.pipeline.scheduler.config.prediction_type for model in said] == ["epsilon", "v_prediction"]
    assert [model.picture_size for model in said] == [64, 768]  # of the small configuration, and of 2.x for v
    metadata = {"modelspec.prediction_type": "v", "modelspec.resolution": "128x128"}
    stated = load_model(changed(pair, tmp_path, lambda weights: None, metadata))
    assert stated.pipeline.scheduler.config.prediction_type == "v_prediction"
    assert stated.picture_size == 128


def test_the_keys_of_v_predicting_merges_are_honoured(pairs: dict[str, Pair], tmp_path: Path):
    def mark(weights: dict[str, Tensor]) -> None:
        weights.update(v_pred=torch.zeros(0), ztsnr=torch.zeros(0))

    spec = changed(pairs["sdxl"], tmp_path, mark)
    scheduler = networks_of(read_header(Path(spec.checkpoint)), SDXL, spec)["scheduler"]
    assert scheduler.config.prediction_type == "v_prediction"
    assert float(scheduler.alphas_cumprod[-1]) < 1e-6  # ends in pure noise


def test_a_setting_of_single_files_is_refused_for_a_folder(pairs: dict[str, Pair]):
    with pytest.raises(InvalidSettings, match=r"scheduler_config\.json"):
        load_model(ModelSpec(str(pairs["sd_1"].folder), prediction="epsilon"))


def test_a_file_of_another_family_than_the_named_one_is_refused(pairs: dict[str, Pair]):
    with pytest.raises(UnsupportedModel, match=r"is SDXL.*Leave FORWARDINF_FAMILY out"):
        load_model(ModelSpec(str(pairs["sdxl"].file), family="sd"))


def test_the_command_line_takes_a_file_wherever_it_takes_a_folder(
    pairs: dict[str, Pair], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def run(*arguments: str) -> str:
        app(arguments, standalone_mode=False)
        return capsys.readouterr().out

    (tmp_path / "set").mkdir()
    write_patches(tmp_path / "set", 3)
    model = ("--model", str(pairs["sd_1"].file))
    small = ("--draws", "2", "--null-pictures", "0", "--no-sketch", "--tunable", "cross-attention k,v")
    run("index", "build", str(tmp_path / "set"), *model, "--out", str(tmp_path / "index"), *small)
    run("generate", "a patch", *model, "--steps", "1", "-o", str(tmp_path / "drawn.png"))
    asked = ("attribute", str(tmp_path / "drawn.png"), "--prompt", "a patch", "--index", str(tmp_path / "index"))
    record = json.loads(run(*asked, *model, "--json"))
    assert len(record["results"]) == 3
    assert record["model"]["fingerprint"] == load_model(ModelSpec(str(pairs["sd_1"].folder))).fingerprint


def test_pickled_weights_are_written_down_without_running_them(pairs: dict[str, Pair], tmp_path: Path):
    weights = load_file(pairs["sd_1"].file)
    torch.save({"state_dict": {**weights, "epoch": 3}, "global_step": 7}, tmp_path / "model.ckpt")
    with pytest.raises(UnsupportedModel, match="forwardinf model safetensors"):
        load_model(ModelSpec(str(tmp_path / "model.ckpt")))
    (written,) = as_safetensors(tmp_path / "model.ckpt")
    found = load_file(written)
    assert written.name == "model.safetensors"
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    with pytest.raises(ForwardInfError, match="there already"):
        as_safetensors(tmp_path / "model.ckpt")
    torch.save({"state_dict": {"x": ModelSpec("a program")}}, tmp_path / "hostile.ckpt")
    with pytest.raises(UnsupportedModel, match="without running a program"):
        as_safetensors(tmp_path / "hostile.ckpt")
    assert not (tmp_path / "hostile.safetensors").exists()


PARAMETERS = {  # of the networks as published
    "sd_1": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sd_2": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sdxl": {"unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840},
}


@pytest.mark.parametrize("kind", PARAMETERS)
def test_the_shipped_configurations_have_the_real_models_sizes(kind: str):
    def made(part: str) -> torch.nn.Module:
        folder = SHIPPED / kind
        if part in ("unet", "vae"):
            network = UNet2DConditionModel if part == "unet" else AutoencoderKL
            return network.from_config(network.load_config(folder, subfolder=part))
        encoder = CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel
        return encoder(CLIPTextConfig.from_pretrained(folder / part))

    with torch.device("meta"):
        counts = {part: sum(p.numel() for p in made(part).parameters()) for part in PARAMETERS[kind]}
    assert counts == PARAMETERS[kind]


def test_the_tokenizer_has_clips_ids():
    """As OpenAI's own code gives them."""
    assert clip_tokenizer()("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    padded = {pad: clip_tokenizer(pad)("cat", padding="max_length").input_ids for pad in ("<|endoftext|>", "!")}
    assert padded == {"<|endoftext|>": [49406, 2368, *[49407] * 75], "!": [49406, 2368, 49407, *[0] * 74]}


def test_the_tokenizer_counts_as_the_one_in_a_pipelines_folder(tmp_path: Path):
    """Which has its vocabulary in two files, and its special tokens as Stable Diffusion 1.5 writes them."""
    told = contents_of(clip_tokenizer())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(told["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, told["merges"])]))
    start, end = (
        {"content": token, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        for token in ("<|startoftext|>", "<|endoftext|>")
    )
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": "<|endoftext|>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77, "pad_token": "<|endoftext|>"}))
    assert contents_of(CLIPTokenizer.from_pretrained(tmp_path)) == contents_of(clip_tokenizer())
