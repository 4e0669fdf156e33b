"""Checkpoints in one file, as CompVis's and Stability AI's code named their weights, written from tiny pipelines.

The names are told here once more, the other way round than diffusers reads them. Blocks are those of the real models,
layer by layer; only widths are small, in configurations that take the place of the shipped ones.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from forwardinf.models.clip_tokenizer import clip_tokenizer
from forwardinf.models.single_file_pipeline import ORIGINAL

KINDS = ("sd_1", "sd_2", "sdxl")
_UNET = {"block_out_channels": [8, 16, 16, 16], "attention_head_dim": 2, "norm_num_groups": 4, "sample_size": 8}
_SMALL = {
    "sd_1/unet": {**_UNET, "cross_attention_dim": 16},
    "sd_2/unet": {**_UNET, "cross_attention_dim": 16},
    "sdxl/unet": {
        **_UNET,
        "block_out_channels": [8, 16, 16],
        "cross_attention_dim": 32,
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + 16,
    },
    "vae": {"block_out_channels": [4, 8, 8, 8], "norm_num_groups": 4},
    "text_encoder": {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "projection_dim": 16},
}


def small_configurations(folder: Path) -> Path:
    """The shipped configurations with small widths."""
    shutil.copytree(ORIGINAL, folder)
    for path in folder.rglob("config.json"):
        network = path.parent.name.removesuffix("_2")
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, **_SMALL.get(network, _SMALL.get(f"{path.parts[-3]}/{network}", {}))}))
    return folder


def pipeline_of(kind: str, configurations: Path) -> DiffusionPipeline:
    """An untrained pipeline of small width, as diffusers' folders have it."""
    torch.manual_seed(0)
    folder = configurations / kind
    parts = {
        "unet": UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder, subfolder="unet")),
        "vae": AutoencoderKL.from_config(AutoencoderKL.load_config(folder, subfolder="vae")),
        "text_encoder": CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
        "tokenizer": clip_tokenizer("!") if kind == "sd_2" else clip_tokenizer(),
        "scheduler": diffusers.DDIMScheduler.from_config(
            diffusers.DDIMScheduler.load_config(folder, subfolder="scheduler")
        ),
    }
    if kind == "sdxl":
        second = CLIPTextConfig.from_pretrained(folder / "text_encoder_2")
        parts |= {"text_encoder_2": CLIPTextModelWithProjection(second), "tokenizer_2": clip_tokenizer("!")}
        return diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    return diffusers.StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def weights_of(kind: str, pipeline: DiffusionPipeline) -> dict[str, Tensor]:
    """All weights of a pipeline by their original names."""
    weights = _prefixed("model.diffusion_model.", _unet(pipeline.unet))
    weights |= _prefixed("first_stage_model.", _autoencoder(pipeline.vae))
    first = {f"text_model.{name}": value for name, value in pipeline.text_encoder.state_dict().items()}
    if kind == "sd_1":
        return weights | _prefixed("cond_stage_model.transformer.", first)
    if kind == "sd_2":
        return weights | _prefixed(
            "cond_stage_model.model.", _open_clip(first, pipeline.text_encoder.config.hidden_size)
        )
    second = _open_clip(pipeline.text_encoder_2.state_dict(), pipeline.text_encoder_2.config.hidden_size)
    weights |= _prefixed("conditioner.embedders.0.transformer.", first)
    return weights | _prefixed("conditioner.embedders.1.model.", second)


def write(weights: dict[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> Path:
    save_file({name: value.clone().contiguous() for name, value in weights.items()}, file, metadata)
    return file


def _prefixed(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in weights.items()}


def _unet(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    parts = {
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
        "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }  # fmt: skip
    for i in range(len(unet.down_blocks)):
        for j in (0, 1):
            parts[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{3 * i + j + 1}.0"
            parts[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{3 * i + j + 1}.1"
        parts[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{3 * i + 3}.0.op"
    for i, block in enumerate(unet.up_blocks):
        for j in (0, 1, 2):
            parts[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{3 * i + j}.0"
            parts[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{3 * i + j}.1"
        parts[f"up_blocks.{i}.upsamplers.0.conv"] = (
            f"output_blocks.{3 * i + 2}.{2 if hasattr(block, 'attentions') else 1}.conv"
        )
    resnet = {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
        "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
    }  # fmt: skip
    return {_renamed(name, parts, resnet): value for name, value in unet.state_dict().items()}


def _autoencoder(vae: AutoencoderKL) -> dict[str, Tensor]:
    last = len(vae.decoder.up_blocks) - 1
    parts = {}
    for side, blocks, mirrored in (("encoder", "down", False), ("decoder", "up", True)):
        parts |= {f"{side}.mid_block.resnets.{k}": f"{side}.mid.block_{k + 1}" for k in (0, 1)}
        parts |= {f"{side}.mid_block.attentions.0": f"{side}.mid.attn_1", f"{side}.conv_norm_out": f"{side}.norm_out"}
        for i in range(last + 1):
            there = f"{side}.{blocks}.{last - i if mirrored else i}"
            parts |= {f"{side}.{blocks}_blocks.{i}.resnets.{j}": f"{there}.block.{j}" for j in (0, 1, 2)}
            parts[f"{side}.{blocks}_blocks.{i}.{blocks}samplers.0.conv"] = f"{there}.{blocks}sample.conv"
    inner = {"conv_shortcut": "nin_shortcut", "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v",
             "to_out.0": "proj_out"}  # fmt: skip
    renamed = {_renamed(name, parts, inner): value for name, value in vae.state_dict().items()}
    return {
        name: value[:, :, None, None] if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", name) else value
        for name, value in renamed.items()
    }


def _renamed(name: str, parts: dict[str, str], inner: dict[str, str]) -> str:
    path, _, end = name.rpartition(".")
    part = next((part for part in parts if path == part or path.startswith(f"{part}.")), None)
    if part is None:
        return name
    rest = path.removeprefix(part).removeprefix(".")
    return ".".join(filter(None, [parts[part], inner.get(rest, rest), end]))


def _open_clip(weights: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """With one more layer, as OpenCLIP has for 2.x, whose output nobody reads; SDXL's has a projection instead."""
    outer = {
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
    }
    found = {outer[name]: value for name, value in weights.items() if name in outer}
    projection = weights.get("text_projection.weight")
    found["text_projection"] = torch.ones(width, width) if projection is None else projection.T
    found["logit_scale"] = torch.tensor(4.6)
    pattern = re.compile(r"text_model\.encoder\.layers\.(\d+)\.(.*)\.(weight|bias)")
    joined: dict[str, list[Tensor]] = {}
    inner = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}  # fmt: skip
    for name in sorted(weights, key=lambda name: [name.find(f".{x}_proj.") >= 0 for x in "vkq"]):
        if (match := pattern.fullmatch(name)) is None:
            continue
        number, part, end = match.groups()
        block = f"transformer.resblocks.{number}"
        if part in inner:
            found[f"{block}.{inner[part]}.{end}"] = weights[name]
        else:
            joined.setdefault(f"{block}.attn.in_proj_{end}", []).append(weights[name])
    found |= {name: torch.cat(parts) for name, parts in joined.items()}
    if projection is None:
        found |= {name.replace("resblocks.0.", "resblocks.23."): value for name, value in found.items()}
    return found
