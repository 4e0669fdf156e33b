"""LoRAs as people have them: every key finds its place and losses are those of the merged weights, or it is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from test_carry_over import sdxl
from typer.testing import CliRunner

from conftest import measured, tiny_pipeline, write_patches
from forwardinf.attribution.answer import answer_of
from forwardinf.attribution.attributor import Attributor
from forwardinf.cli.main import app
from forwardinf.config import parse_adapter
from forwardinf.draws import DrawPlan
from forwardinf.errors import (
    DamagedAsset,
    IndexMismatch,
    InvalidRequest,
    InvalidSettings,
    MissingAsset,
    UnsupportedModel,
)
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models.adapter_places import Places
from forwardinf.models.generation import GenerationRequest
from forwardinf.models.registry import load_model
from forwardinf.models.sd import StableDiffusion
from forwardinf.models.sdxl import StableDiffusionXL
from forwardinf.records.recording import record_of
from forwardinf.records.text import as_table
from forwardinf.types import Adapter, LatentBatch, ModelSpec

Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV = "up_blocks.0.resnets.1.conv1"
TEXT = "encoder.layers.0.self_attn.q_proj"
LDM = {Q: "input_blocks.3.1.transformer_blocks.0.attn1.to_q", OUT: "middle_block.1.transformer_blocks.0.attn2.to_out.0",
       CONV: "output_blocks.1.0.in_layers.2"}  # fmt: skip
RANK, ALPHA = 2, 3.0
Tensors = dict[str, torch.Tensor]


def kohya(layer: str, part: str) -> str:
    begin = "lora_te_text_model_" if layer == TEXT else "lora_unet_"
    return (
        begin
        + layer.replace(".", "_")
        + {"down": ".lora_down.weight", "up": ".lora_up.weight", "alpha": ".alpha"}[part]
    )


def kohya_as_for_sdxl(layer: str, part: str) -> str:
    return kohya(LDM.get(layer, layer), part)


def comfy(layer: str, part: str) -> str:
    begin = "text_encoders.clip_l.transformer.text_model." if layer == TEXT else "diffusion_model."
    return begin + LDM.get(layer, layer) + {"down": ".lora_A.weight", "up": ".lora_B.weight", "alpha": ".alpha"}[part]


def diffusers(layer: str, part: str) -> str:
    begin = "text_encoder.text_model." if layer == TEXT else "unet."
    return begin + layer + {"down": ".lora_A.weight", "up": ".lora_B.weight", "alpha": ".alpha"}[part]


def earlier_diffusers(layer: str, part: str) -> str:
    begin = diffusers(layer, "alpha").removesuffix(".alpha")
    if layer == TEXT:
        return f"{begin}.lora_linear_layer.{part}.weight"
    if layer == CONV:
        return f"{begin}.lora.{part}.weight"
    return f"{begin.removesuffix('.0').replace('.to_', '.processor.to_')}_lora.{part}.weight"


def peft(layer: str, part: str) -> str:
    return f"base_model.model.{layer}" + {"down": ".lora_A.weight", "up": ".lora_B.weight", "alpha": ".alpha"}[part]


def weights_of(pipeline: StableDiffusionPipeline, layer: str) -> torch.nn.Parameter:
    network = pipeline.text_encoder if layer == TEXT else pipeline.unet
    return network.get_submodule(layer).weight


def matrices(
    layers: tuple[str, ...] = (Q, OUT, CONV, TEXT), seed: int = 1
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Down and up of each layer, of the tiny model's shapes."""
    pipeline, random = tiny_pipeline(), torch.Generator().manual_seed(seed)
    found = {}
    for layer in layers:
        outputs, *inputs = weights_of(pipeline, layer).shape
        up = torch.randn(outputs, RANK, *(1,) * (len(inputs) - 1), generator=random) * 0.3
        found[layer] = torch.randn(RANK, *inputs, generator=random) * 0.3, up
    return found


def lora(path: Path, key: Callable[[str, str], str] = kohya, layers: tuple[str, ...] = (Q, OUT, CONV, TEXT)) -> Path:
    tensors = {key(layer, part): tensor for layer, both in matrices(layers).items()
               for part, tensor in zip(("down", "up"), both, strict=True)}  # fmt: skip
    tensors |= {key(layer, "alpha"): torch.tensor(ALPHA) for layer in layers}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def merged(weight: float = 1.0, scale: float = ALPHA / RANK) -> StableDiffusion:
    """The tiny model with the same changes added to its weights."""
    pipeline = tiny_pipeline()
    for layer, (down, up) in matrices().items():
        change = (up.flatten(1) @ down.flatten(1)).view_as(weights_of(pipeline, layer))
        weights_of(pipeline, layer).data += weight * scale * change
    return StableDiffusion(pipeline, ModelSpec("tiny"))


def adapted(file: Path, weight: float = 1.0, **spec: Any) -> StableDiffusion:
    given = ModelSpec("tiny", **{"adapter": Adapter(str(file), weight), "tunable": "adapter", **spec})
    return StableDiffusion(tiny_pipeline(), given)


def losses_of(model: StableDiffusion) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    prompts = model.encode_prompt(["red apple", "green pear"])
    batch = LatentBatch(("a", "b"), torch.randn(2, 4, 8, 8, generator=random), prompts)
    with torch.no_grad():
        return measured(model, batch, DrawPlan(0, 3))


@pytest.fixture(scope="module")
def base_losses() -> torch.Tensor:
    return losses_of(StableDiffusion(tiny_pipeline(), ModelSpec("tiny")))


@pytest.fixture(scope="module")
def merged_losses() -> torch.Tensor:
    return losses_of(merged())


@pytest.mark.parametrize("key", [kohya, kohya_as_for_sdxl, comfy, diffusers])
def test_losses_are_those_of_the_merged_weights_whoever_named_the_keys(
    tmp_path: Path, key: Callable[[str, str], str], merged_losses: torch.Tensor, base_losses: torch.Tensor
):
    model = adapted(lora(tmp_path / "style.safetensors", key))
    assert torch.allclose(losses_of(model), merged_losses, atol=1e-5)
    assert not torch.allclose(merged_losses, base_losses, atol=1e-2)


def test_without_an_alpha_the_matrices_count_as_they_are(tmp_path: Path):
    file = lora(tmp_path / "style.safetensors", earlier_diffusers)
    changed(file, lambda t: [t.pop(key) for key in list(t) if key.endswith("alpha.weight")])
    assert torch.allclose(losses_of(adapted(file)), losses_of(merged(scale=1.0)), atol=1e-5)


def test_diffusers_own_loader_gives_the_same_losses(tmp_path: Path):
    """Against diffusers' own converter; of a LoRA without text encoder keys, whose names it cannot find here."""
    file, pipeline = lora(tmp_path / "style.safetensors", layers=(Q, OUT, CONV)), tiny_pipeline()
    state, alphas = StableDiffusionPipeline.lora_state_dict(load_file(file))
    pipeline.unet.load_lora_adapter(state, network_alphas=alphas, prefix="unet")
    expected = losses_of(StableDiffusion(pipeline, ModelSpec("tiny", tunable=r"attn1\.to_k\.weight")))
    assert torch.allclose(losses_of(adapted(file)), expected, atol=1e-5)


def test_a_weight_scales_the_change(tmp_path: Path):
    model = adapted(lora(tmp_path / "style.safetensors"), 0.5)
    assert torch.allclose(losses_of(model), losses_of(merged(0.5)), atol=1e-5)


def test_left_out_the_model_is_its_base_and_afterwards_as_before(tmp_path: Path, base_losses: torch.Tensor):
    model = adapted(lora(tmp_path / "style.safetensors"))
    before, request = losses_of(model), GenerationRequest("red apple", steps=2)
    drawn = model.generate(request)
    with model.without_adapter():
        assert torch.equal(losses_of(model), base_losses)
        assert model.generate(request).tobytes() != drawn.tobytes()
    assert torch.equal(losses_of(model), before)
    assert model.generate(request).tobytes() == drawn.tobytes()
    assert all(p.requires_grad for p in model.tunable_parameters().values())
    assert not any(p.requires_grad for p in model.pipeline.text_encoder.parameters())


def test_a_query_moves_the_unets_matrices_and_nothing_else(tmp_path: Path):
    model = adapted(lora(tmp_path / "style.safetensors"))
    tunable = model.tunable_parameters()
    assert sorted(tunable) == sorted(f"{layer}.lora_{m}.lora.weight" for layer in (Q, OUT, CONV) for m in "AB")
    before = losses_of(model)
    with model.with_deltas({name: torch.full_like(p, 0.1) for name, p in tunable.items()}):
        assert not torch.allclose(losses_of(model), before, atol=1e-4)
    assert torch.equal(losses_of(model), before)


def test_in_half_precision_the_matrices_stay_in_float32(tmp_path: Path, merged_losses: torch.Tensor):
    model = adapted(lora(tmp_path / "style.safetensors"), dtype="float16")
    assert {p.dtype for p in model.tunable_parameters().values()} == {torch.float32}
    assert torch.allclose(losses_of(model), merged_losses, atol=0.02)


def test_file_and_weight_are_in_the_fingerprint(tmp_path: Path):
    file, other = lora(tmp_path / "a.safetensors"), tmp_path / "b.safetensors"
    save_file({key: tensor * 1.01 for key, tensor in load_file(file).items()}, other)
    base = StableDiffusion(tiny_pipeline(), ModelSpec("tiny")).fingerprint
    named = lora(tmp_path / "renamed.safetensors")
    found = [adapted(file).fingerprint, adapted(file, 0.5).fingerprint, adapted(other).fingerprint, base]
    assert len(set(found)) == 4
    assert adapted(named).fingerprint == adapted(file, dtype="float16").fingerprint == found[0]


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"lora_alpha": 3}, 3 / RANK),
        ({"lora_alpha": 3, "use_rslora": True}, 3 / RANK**0.5),
        ({"lora_alpha": 7, "alpha_pattern": {"to_q|to_out.0|conv1|q_proj": 5}}, 5 / RANK),
    ],
)
def test_a_folder_that_peft_wrote_counts_as_its_config_says(tmp_path: Path, config: dict[str, Any], scale: float):
    file = lora(tmp_path / "adapter_model.safetensors", peft)
    save_file({key: tensor for key, tensor in load_file(file).items() if not key.endswith("alpha")}, file)
    with pytest.raises(UnsupportedModel, match=r"adapter_config\.json says.*not beside the file"):
        adapted(file)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, **config}))
    assert torch.allclose(losses_of(adapted(tmp_path)), losses_of(merged(scale=scale)), atol=1e-5)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 3, "init_lora_weights": "pissa"}))
    with pytest.raises(UnsupportedModel, match="began as “pissa”"):
        adapted(tmp_path)


def loha(random: torch.Generator) -> tuple[Tensors, torch.Tensor]:
    """A LoHa's matrices of Q, and the change that they stand for (Hyeon-Woo et al. 2022, arXiv 2108.06098)."""
    parts = {f"hada_w{n}_{side}": torch.randn(*shape, generator=random) * 0.5
             for n in (1, 2) for side, shape in (("a", (16, RANK)), ("b", (RANK, 16)))}  # fmt: skip
    change = (parts["hada_w1_a"] @ parts["hada_w1_b"]) * (parts["hada_w2_a"] @ parts["hada_w2_b"])
    return parts, ALPHA / RANK * change


def lokr(random: torch.Generator) -> tuple[Tensors, torch.Tensor]:
    shapes = {"lokr_w1": (2, 4), "lokr_w2_a": (8, RANK), "lokr_w2_b": (RANK, 4)}
    parts = {part: torch.randn(*shape, generator=random) * 0.5 for part, shape in shapes.items()}
    return parts, ALPHA / RANK * torch.kron(parts["lokr_w1"], parts["lokr_w2_a"] @ parts["lokr_w2_b"])


def dora(random: torch.Generator) -> tuple[Tensors, torch.Tensor]:
    """As published: m (V + ΔV) / ‖V + ΔV‖ over the inputs (Liu et al. 2024, arXiv 2402.09353, eq. 5)."""
    base = weights_of(tiny_pipeline(), Q).detach()
    down, up = torch.randn(RANK, 16, generator=random) * 0.5, torch.randn(16, RANK, generator=random) * 0.5
    magnitude = torch.rand(16, 1, generator=random) + 0.5
    changed = base + ALPHA / RANK * up @ down
    after = magnitude * changed / changed.norm(dim=1, keepdim=True)
    return {"lora_down.weight": down, "lora_up.weight": up, "dora_scale": magnitude}, after - base


@pytest.mark.parametrize("kind", [loha, lokr, dora])
def test_other_kinds_change_the_weights_as_they_are_defined(
    tmp_path: Path, kind: Callable[..., tuple[Tensors, torch.Tensor]]
):
    parts, change = kind(torch.Generator().manual_seed(3))
    stem = "lora_unet_" + Q.replace(".", "_")
    tensors = {f"{stem}.{part}": tensor for part, tensor in parts.items()} | {f"{stem}.alpha": torch.tensor(ALPHA)}
    save_file(tensors, tmp_path / "kind.safetensors")
    model, pipeline = adapted(tmp_path / "kind.safetensors"), tiny_pipeline()
    weights_of(pipeline, Q).data += change
    assert torch.allclose(losses_of(model), losses_of(StableDiffusion(pipeline, ModelSpec("tiny"))), atol=1e-5)
    assert len(model.tunable_parameters()) == len(parts)
    halved = lambda: adapted(tmp_path / "kind.safetensors", 0.5)  # noqa: E731
    if kind is dora:
        with pytest.raises(UnsupportedModel, match="is a DoRA"):
            halved()
    else:
        weights_of(pipeline, Q).data -= change / 2
        expected = losses_of(StableDiffusion(pipeline, ModelSpec("tiny")))
        assert torch.allclose(losses_of(halved()), expected, atol=1e-5)


def changed(file: Path, change: Callable[[Tensors], Any]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


DOWN = kohya(Q, "down")
REFUSED: dict[str, tuple[Callable[[Tensors], Any], type[Exception], str]] = {
    "another base": (
        lambda t: t.update({DOWN: torch.zeros(RANK, 24)}), UnsupportedModel,
        "made for another base: its change of “lora_unet_down_blocks_1.* is 16 × 24, but that layer is 16 × 16",
    ),
    "a layer of another model": (
        lambda t: t.update({f"lora_unet_blocks_0.lora_{p}.weight": torch.zeros(1, 1) for p in ("up", "down")}),
        UnsupportedModel, "Of the 5 layers .*does not have 1: “lora_unet_blocks_0”",
    ),
    "a second text encoder": (
        lambda t: t.update({k.replace("te_", "te2_"): t[k].clone() for k in list(t) if "te_" in k}), UnsupportedModel,
        "“lora_te2_text_model",
    ),
    "whole matrices": (
        lambda t: t.update({"lora_unet_conv_in.diff": torch.zeros(1)}), UnsupportedModel, r"conv_in\.diff"
    ),
    "half a layer": (lambda t: t.pop(DOWN), DamagedAsset, "of “lora_unet_down_blocks_1.*only up"),
    "not finite": (lambda t: t[DOWN].fill_(torch.inf), DamagedAsset, "not finite in “lora_unet_down"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, case: str):
    change, error, told = REFUSED[case]
    changed(file := lora(tmp_path / "style.safetensors"), change)
    with pytest.raises(error, match=told):
        adapted(file)


def test_files_that_are_no_adapters_are_refused(tmp_path: Path):
    file = lora(tmp_path / "style.safetensors")
    for end in (5, 900):
        (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:end])
        with pytest.raises(DamagedAsset, match=r"“cut\.safetensors” is no safetensors file, or is cut short"):
            adapted(tmp_path / "cut.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "style.pt")
    with pytest.raises(UnsupportedModel, match="is a pickle"):
        adapted(tmp_path / "style.pt")
    with pytest.raises(MissingAsset, match="no adapter “none"):
        adapted(tmp_path / "none.safetensors")
    with pytest.raises(MissingAsset, match=r"has 2 \.safetensors files"):
        adapted(tmp_path)
    with pytest.raises(UnsupportedModel, match="text encoder alone"):
        adapted(lora(tmp_path / "text.safetensors", layers=(TEXT,)))
    with pytest.raises(InvalidRequest, match="move the weights of an adapter"):
        StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="adapter"))


def test_what_the_file_says_of_its_base_is_told(tmp_path: Path):
    tensors = {f"lora_unet_x.{part}.weight": torch.zeros(1, 1) for part in ("lora_up", "lora_down")}
    save_file(tensors, tmp_path / "a.safetensors", {"ss_base_model_version": "sdxl_base_v1-0"})
    with pytest.raises(UnsupportedModel, match="It says that it was made for “sdxl_base_v1-0”"):
        adapted(tmp_path / "a.safetensors")


def test_every_layer_of_both_families_is_found_by_each_of_its_names():
    pipeline = sdxl()
    encoders = {"text_encoder": pipeline.text_encoder, "text_encoder_2": pipeline.text_encoder_2}
    places = Places({"unet": pipeline.unet, **encoders})
    names = [path for path, m in pipeline.unet.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    assert {places.find(f"lora_unet_{path.replace('.', '_')}") for path in names} == {("unet", path) for path in names}
    assert places.find("lora_te1_text_model_" + TEXT.replace(".", "_")) == ("text_encoder", TEXT)
    assert places.find("lora_te2_text_model_" + TEXT.replace(".", "_")) == ("text_encoder_2", f"text_model.{TEXT}")
    assert places.find("lora_unet_input_blocks_0_0") == ("unet", "conv_in")
    assert places.find("lora_unet_nothing") is None


def test_sdxl_takes_a_lora(tmp_path: Path):
    file = tmp_path / "style.safetensors"
    path = "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q"
    width = sdxl().unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight.shape[0]
    save_file({f"{path}.lora_{part}.weight": torch.ones(shape) for part, shape in
               (("down", (1, width)), ("up", (width, 1)))}, file)  # fmt: skip
    model = StableDiffusionXL(sdxl(), ModelSpec("tiny", adapter=Adapter(str(file)), tunable="adapter"))
    assert len(model.tunable_parameters()) == 2


def test_an_index_is_that_of_the_model_with_its_lora(tmp_path: Path, tiny_checkpoint: Path):
    file, out = lora(tmp_path / "style.safetensors"), tmp_path / "index"
    (pictures := tmp_path / "set").mkdir()
    write_patches(pictures, 4)
    spec = ModelSpec(str(tiny_checkpoint), tunable="adapter", adapter=Adapter(str(file), 0.5))
    model, plan = load_model(spec), BuildPlan(draws=2, fisher_images=2, fisher_draws=1)
    index = build_index(model, training_images(pictures), out, plan)
    assert index.info.model == f"{tiny_checkpoint.name} + style.safetensors:0.5"
    assert index.fisher().keys() == model.tunable_parameters().keys()
    measured = torch.cat([shard.base_losses for shard in index.shards()])
    assert index.unadapted_losses.shape == measured.shape
    base = load_model(ModelSpec(str(tiny_checkpoint)))
    without = build_index(base, training_images(pictures), tmp_path / "without", plan).base_losses
    assert torch.allclose(index.unadapted_losses, without, atol=1e-5)
    assert not torch.allclose(measured, without, atol=1e-2)
    attributor = Attributor.load(out, replace(spec, tunable="all"))
    source = training_images(pictures)
    picture = source.picture(source.by_id["02.png"])
    method = ForwardInf(loss_budget=0.01)  # three random layers can do no more about an untrained model's loss
    query = attributor.query(picture, source.by_id["02.png"].caption)
    *_, last = attributor.follow(query, method)
    record = record_of(answer_of(attributor, query, method, last), index, 4)
    assert record.results[0].id == "02.png"
    assert record.results[0].adapter.loss_without == pytest.approx(float(without[2].mean()), abs=1e-5)
    assert f" {float(measured[2].mean()):7.4f} {float(without[2].mean()):7.4f}  " in as_table(record)
    with pytest.raises(InvalidRequest, match=r"the model has none\. Name it with --lora"):
        Attributor.load(out, replace(spec, adapter=None))
    with pytest.raises(IndexMismatch, match=r"made with another model \(pipeline \+ style\.safetensors:0\.5"):
        Attributor.load(out, replace(spec, adapter=Adapter(str(file))))


def test_an_adapter_that_lies_in_a_pipelines_folder_is_not_left_out_in_silence(tmp_path: Path, tiny_checkpoint: Path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "pipeline")
    file = lora(folder / "pytorch_lora_weights.safetensors")
    with pytest.raises(
        UnsupportedModel, match=r"has an adapter beside its networks, pytorch_lora_weights\.safetensors"
    ):
        load_model(ModelSpec(str(folder)))
    assert load_model(ModelSpec(str(folder), tunable="adapter", adapter=Adapter(str(file)))).spec.adapter


@pytest.mark.parametrize("command", [["generate", "x", "-o", "x.png"], ["index", "build", "SET", "--out", "x"]])
def test_the_command_line_takes_a_lora(tmp_path: Path, tiny_checkpoint: Path, command: list[str]):
    write_patches(tmp_path, 2)
    words = [str(tmp_path) if word == "SET" else word for word in command]
    done = CliRunner().invoke(app, [*words, "--model", str(tiny_checkpoint), "--lora", "style.safetensors:0.5"])
    assert "There is no adapter “style.safetensors”" in str(done.exception)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a.safetensors", Adapter("a.safetensors")),
        ("a.safetensors:0.8", Adapter("a.safetensors", 0.8)),
        ("c:a.safetensors", Adapter("c:a.safetensors")),
        ("folder/a:-1", Adapter("folder/a", -1.0)),
    ],
)
def test_a_weight_follows_the_file(written: str, read: Adapter):
    assert parse_adapter(written) == read


@pytest.mark.parametrize("weight", ["0", "nan", "inf"])
def test_a_weight_that_means_nothing_is_refused(weight: str):
    with pytest.raises(InvalidSettings, match="LoRA's weight is"):
        parse_adapter(f"a.safetensors:{weight}")
