"""Which layer of which network an adapter's name for it means.

Trainers flatten a layer's path with underscores or keep its dots, and name the UNet's as diffusers does, or as the
original code of Stable Diffusion (LDM, also called SGM for SDXL).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

UNET, TEXT, TEXT_2, TEXT_3 = "unet", "text_encoder", "text_encoder_2", "text_encoder_3"
DENOISER = ""  # the network that denoises, whatever a pipeline calls it
# Whose layer a name means by how it begins; the first that fits counts.
_BEGINNINGS = {
    "lora_unet_": DENOISER, "lora_transformer_": DENOISER, "lora_te1_": TEXT, "lora_te2_": TEXT_2,
    "lora_te3_": TEXT_3, "lora_te_": TEXT, "unet.": DENOISER, "transformer.": DENOISER,
    "text_encoder_3.": TEXT_3, "text_encoder_2.": TEXT_2, "text_encoder.": TEXT,
    "model.diffusion_model.": DENOISER, "diffusion_model.": DENOISER,
    "text_encoders.clip_l.transformer.": TEXT, "text_encoders.clip_g.transformer.": TEXT_2,
    "clip_l.transformer.": TEXT, "clip_g.transformer.": TEXT_2,
}  # fmt: skip
_RESNET = {
    "conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"
}  # fmt: skip


class Places:
    """The layers of a model's networks that an adapter can change, by every name in use."""

    def __init__(self, networks: Mapping[str, nn.Module], denoiser: str = UNET) -> None:
        """`networks` are the one that denoises and the text encoders, by the names of a pipeline's components."""
        self._denoiser = denoiser
        self._by_name = {component: dict(_names(component, network)) for component, network in networks.items()}

    def find(self, key: str) -> tuple[str, str] | None:
        """The component and the path of the layer in it that an adapter's name means; None where there is none."""
        name = key.removeprefix("base_model.model.")
        beginning = next((b for b in _BEGINNINGS if name.startswith(b)), "")
        components = [_BEGINNINGS[beginning] or self._denoiser] if beginning else list(self._by_name)
        flat = _flat(_without_processor(name.removeprefix(beginning)))
        for component in components:
            if (layer := self._by_name.get(component, {}).get(flat)) is not None:
                return component, layer
        return None


def _names(component: str, network: nn.Module) -> Iterator[tuple[str, str]]:
    """Every flattened name of each layer that is a matrix or a convolution, and its path."""
    original = _original_names(network) if component == UNET else {}
    is_text = component.startswith(TEXT)
    for path, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            yield _flat(path), path
            if is_text:
                yield _flat(f"text_model.{path}"), path
                yield _flat(path.removeprefix("text_model.")), path
            elif name := _original_name(path, original):
                yield _flat(name), path


def _flat(path: str) -> str:
    return path.replace(".", "_")


def _without_processor(name: str) -> str:
    """As the layers are named since diffusers has no attention processors with weights of their own."""
    name = re.sub(r"\.processor\.(to_\w+)$", r".\1", name)
    return re.sub(r"\.to_out$", ".to_out.0", name)


def _original_name(path: str, original: Mapping[str, str]) -> str | None:
    for beginning, name in original.items():
        if path == beginning:
            return name
        if path.startswith(f"{beginning}."):
            rest = path.removeprefix(f"{beginning}.")
            return f"{name}.{_RESNET[rest] if '.resnets.' in f'{beginning}.' else rest}"
    return None


def _original_names(unet: UNet2DConditionModel) -> dict[str, str]:
    """The original names of a UNet's parts, by the paths that they have in diffusers."""
    names = {
        "conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2", "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1", "mid_block.resnets.1": "middle_block.2",
    }  # fmt: skip
    number = 1
    for i, block in enumerate(unet.down_blocks):
        for j in range(len(block.resnets)):
            names[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{number}.0"
            names[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{number}.1"
            number += 1
        if block.downsamplers:
            names[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{number}.0.op"
            number += 1
    number = 0
    for i, block in enumerate(unet.up_blocks):
        for j in range(len(block.resnets)):
            names[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{number}.0"
            names[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{number}.1"
            number += 1
        place = 2 if hasattr(block, "attentions") else 1
        names[f"up_blocks.{i}.upsamplers.0.conv"] = f"output_blocks.{number - 1}.{place}.conv"
    return names
