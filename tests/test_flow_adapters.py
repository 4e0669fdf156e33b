"""LoRAs on transformers, by the layouts that trainers write: losses are those of merged weights, or it is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_flow_families import CLASSES, FLOWS, Model, batch_of, draws_of, spec

from forwardinf.errors import UnsupportedModel
from forwardinf.types import Adapter
from tiny_families import tiny

RANK, ALPHA = 2, 3.0
# A layer of each family that trainers adapt by its own name.
LAYER = {"sd3": "transformer_blocks.1.attn.to_q", "flux": "single_transformer_blocks.1.attn.to_k",
         "flux2": "transformer_blocks.0.attn.add_v_proj", "qwen_image": "transformer_blocks.2.attn.to_v",
         "z_image": "layers.1.attention.to_q"}  # fmt: skip
QKV = ("to_q", "to_k", "to_v")
Changes = dict[str, tuple[torch.Tensor, torch.Tensor]]  # down and up, by layer


def matrices(shapes: Mapping[str, tuple[int, int]]) -> Changes:
    random = torch.Generator().manual_seed(5)
    return {layer: (torch.randn(RANK, width, generator=random) * 0.3, torch.randn(out, RANK, generator=random) * 0.3)
            for layer, (out, width) in shapes.items()}  # fmt: skip


def saved(path: Path, changes: Changes, key: Callable[[str, str], str], alpha: bool = True) -> Path:
    tensors = {key(layer, part): tensor for layer, both in changes.items()
               for part, tensor in zip(("down", "up"), both, strict=True)}  # fmt: skip
    if alpha:
        tensors |= {key(layer, "alpha"): torch.tensor(ALPHA) for layer in changes}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def kohya(layer: str, part: str) -> str:
    endings = {"down": ".lora_down.weight", "up": ".lora_up.weight", "alpha": ".alpha"}
    return "lora_unet_" + layer.replace(".", "_") + endings[part]


def dotted(prefix: str) -> Callable[[str, str], str]:
    endings = {"down": ".lora_A.weight", "up": ".lora_B.weight", "alpha": ".alpha"}
    return lambda layer, part: prefix + layer + endings[part]


def adapted(family: str, file: Path) -> Model:
    return CLASSES[family](tiny(family), spec(adapter=Adapter(str(file)), tunable="adapter"))


def losses_of(model: Model) -> torch.Tensor:
    batch = batch_of(model, "red apple", "green pear")
    with torch.no_grad():
        return model.loss(batch, draws_of(batch))


def merged(family: str, changes: Mapping[str, torch.Tensor], scale: float = ALPHA / RANK) -> torch.Tensor:
    pipeline = tiny(family)
    for layer, change in changes.items():
        pipeline.transformer.get_submodule(layer).weight.data += scale * change
    return losses_of(CLASSES[family](pipeline, spec()))


def one(family: str) -> Changes:
    return matrices({LAYER[family]: tuple(tiny(family).transformer.get_submodule(LAYER[family]).weight.shape)})


@pytest.mark.parametrize("family", FLOWS)
@pytest.mark.parametrize("key", [dotted("transformer."), dotted("diffusion_model."), kohya], ids=["own", "comfy", "sd"])
def test_losses_are_those_of_the_merged_weights(family: str, key: Callable[[str, str], str], tmp_path: Path):
    changes = one(family)
    model = adapted(family, saved(tmp_path / "style.safetensors", changes, key))
    expected = merged(family, {layer: up @ down for layer, (down, up) in changes.items()})
    torch.testing.assert_close(losses_of(model), expected, atol=1e-4, rtol=1e-4)
    assert sorted(model.tunable_parameters()) == [f"{LAYER[family]}.lora_{side}.lora.weight" for side in "AB"]
    with model.without_adapter():
        torch.testing.assert_close(losses_of(model), merged(family, {}))
    assert not torch.allclose(expected, merged(family, {}), atol=1e-3)


def fused(original: str, block: str, names: tuple[str, ...]) -> tuple[Changes, dict[str, torch.Tensor]]:
    """A change of the original code's one matrix for queries, keys and values, and what it is of the three here."""
    changes = matrices({original: (96, 32)})
    down, up = changes[original]
    return changes, {f"{block}.{name}": part @ down for name, part in zip(names, up.chunk(3), strict=True)}


@pytest.mark.parametrize(
    ("family", "original", "key", "alpha"),
    [
        ("flux", "double_blocks.1.img_attn.qkv", kohya, True),
        ("flux2", "double_blocks.1.img_attn.qkv", dotted("diffusion_model."), False),
    ],
)
def test_a_fused_layer_of_the_original_code_is_split(
    family: str, original: str, key: Callable[[str, str], str], alpha: bool, tmp_path: Path
):
    changes, expected = fused(original, "transformer_blocks.1.attn", QKV)
    model = adapted(family, saved(tmp_path / "style.safetensors", changes, key, alpha))
    scale = ALPHA / RANK if alpha else 1.0
    torch.testing.assert_close(losses_of(model), merged(family, expected, scale), atol=1e-4, rtol=1e-4)
    assert len(model.tunable_parameters()) == 6


def test_diffusers_own_loader_gives_the_same_losses(tmp_path: Path):
    changes, _ = fused("double_blocks.0.txt_attn.qkv", "", QKV)
    changes |= matrices({"single_blocks.0.linear2": (32, 160), "double_blocks.0.img_mlp.0": (128, 32)})
    file, pipeline = saved(tmp_path / "style.safetensors", changes, kohya), tiny("flux")
    pipeline.load_lora_weights(str(file))
    expected = losses_of(CLASSES["flux"](pipeline, spec(tunable="add_q_proj.*base_layer")))
    torch.testing.assert_close(losses_of(adapted("flux", file)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "key", "added", "told"),
    [
        # diffusers drops each of the first three with a line in its log
        ("flux", kohya, "lora_unet_double_blocks_0_img_attn_qkv.dora_scale", "dora_scale"),
        ("flux", kohya, "lora_unet_final_layer_unheard_of.lora_down.weight", "unheard_of"),
        ("flux", kohya, "lora_te3_encoder_block_0.lora_down.weight", "lora_te3_encoder_block_0"),
        ("qwen_image", dotted("diffusion_model."), "diffusion_model.unheard.of.lora_A.weight", "unheard"),
        ("sd3", kohya, "lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", "joint_blocks_0"),
    ],
)
def test_a_key_that_finds_no_place_refuses_the_file(
    family: str, key: Callable[[str, str], str], added: str, told: str, tmp_path: Path
):
    changes = fused("double_blocks.0.img_attn.qkv", "", QKV)[0] if family == "flux" else one(family)
    file = saved(tmp_path / "style.safetensors", changes, key)
    tensors = load_file(file)
    tensors[added] = torch.ones(RANK, 32)
    if added.endswith("lora_down.weight"):
        tensors[added.replace("down", "up")] = torch.ones(32, RANK)
    if added.endswith("lora_A.weight"):
        tensors[added.replace("lora_A", "lora_B")] = torch.ones(32, RANK)
    save_file(tensors, file)
    with pytest.raises(UnsupportedModel, match=told):
        adapted(family, file)


def test_a_lora_of_another_family_is_refused(tmp_path: Path):
    file = saved(tmp_path / "style.safetensors", one("z_image"), dotted("transformer."))
    with pytest.raises(UnsupportedModel, match=r"layers\.1\.attention\.to_q"):
        adapted("flux", file)


def test_one_that_changes_a_text_encoder_alone_is_refused(tmp_path: Path):
    changes = matrices({"text_model.encoder.layers.0.self_attn.q_proj": (16, 16)})
    file = saved(tmp_path / "style.safetensors", changes, dotted("text_encoder."))
    with pytest.raises(UnsupportedModel, match="nothing of the transformer that a query could move"):
        adapted("flux", file)
