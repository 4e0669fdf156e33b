"""A checkpoint in one .safetensors file, with the keys of CompVis's and Stability AI's code: which model it is.

Read are Stable Diffusion 1.x, 2.x and SDXL base. Which of them a file is follows from the names and shapes of its
UNet's weights. What a UNet was trained to predict, and on pictures of which size, weights do not show: it is taken from
what the file says, from what the user says, or is the original model's; only where those differ among the original
models, as they do for 2.x, somebody has to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidSettings, UnsupportedModel
from ..types import ModelSpec
from .adapter_file import is_adapter, shown
from .weights_file import Header

UNET = "model.diffusion_model."
AUTOENCODERS = ("first_stage_model.", "vae.")


@dataclass(frozen=True)
class Kind:
    """One of the models whose single files are read."""

    title: str
    folder: str  # of its configurations
    pipeline: str
    encoders: tuple[tuple[str, str], ...]  # the text encoders, and how their keys begin


SD_1 = Kind(
    "Stable Diffusion 1.x", "sd_1", "StableDiffusionPipeline", (("text_encoder", "cond_stage_model.transformer."),)
)
SD_2 = Kind("Stable Diffusion 2.x", "sd_2", "StableDiffusionPipeline", (("text_encoder", "cond_stage_model.model."),))
SDXL = Kind(
    "SDXL",
    "sdxl",
    "StableDiffusionXLPipeline",
    (("text_encoder", "conditioner.embedders.0.transformer."), ("text_encoder_2", "conditioner.embedders.1.model.")),
)
_READ = "Single files are read of Stable Diffusion 1.x, 2.x and SDXL base"
# What a file is whose keys have one of these in them, where it is no such checkpoint.
_STRANGERS = (
    (r"(^|\.)joint_blocks\.", "is Stable Diffusion 3"),
    (r"(^|\.)double_(stream_)?blocks\.|(^|\.)single_transformer_blocks\.", "is a FLUX or another transformer"),
    (r"(^|\.)(cap_embedder|txt_in|transformer_blocks\.0\.attn|x_embedder)\.", "is a transformer of another family"),
    (r"^control_model\.|^controlnet_|^input_hint_block\.", "is a ControlNet, which steers a checkpoint"),
    (r"motion_modules\.", "is a motion module for AnimateDiff"),
    (r"^(emb_params|string_to_param|clip_l|clip_g)$", "is a textual inversion, the embedding of a word"),
    (r"^(down_blocks|mid_block|up_blocks)\.", "is a single network of a pipeline in diffusers' format"),
    (r"^(encoder|decoder|first_stage_model|vae)\.", "is an autoencoder alone"),
    (r"^(text_model|cond_stage_model|conditioner)\.", "is a text encoder alone"),
)
# UNets of the same layout with other inputs or noise, by a key that only they have.
_RELATIVES = {
    "conditioner.embedders.0.model.ln_final.weight": "is SDXL's refiner, which only ends what the base begins",
    "edm_mean": "is Playground 2.5, which was trained with the noise levels of EDM",
    "edm_vpred.sigma_max": "was trained with the noise levels of EDM, as CosXL was",
    "noise_augmentor.data_mean": "is unCLIP, which draws from a picture's embedding",
}
_CHANNELS = {
    9: "is for inpainting", 8: "edits pictures (InstructPix2Pix)", 7: "is an upscaler", 5: "draws from depth maps"
}  # fmt: skip


def kind_of(header: Header) -> Kind:
    """Raises UnsupportedModel saying what the file is instead, and for one of these that lacks a network."""
    entrance = header.shapes.get(f"{UNET}input_blocks.0.0.weight")
    if entrance is None or len(entrance) != 4:
        raise UnsupportedModel(_other(header))
    for key, what in _RELATIVES.items():
        if key in header.shapes:
            raise UnsupportedModel(f"“{header.name}” {what}. {_READ}: try the checkpoint of one.")
    if entrance[1] != 4:
        what = _CHANNELS.get(entrance[1], "needs another picture beside the prompt")
        raise UnsupportedModel(
            f"“{header.name}” {what}: its UNet takes {entrance[1]} channels instead of 4. Try the text-to-image "
            "checkpoint that it was made from."
        )
    if f"{UNET}label_emb.0.0.weight" in header.shapes:
        kind = SDXL
    else:
        kind = SD_1 if len(header.shapes.get(f"{UNET}input_blocks.1.1.proj_in.weight", ())) == 4 else SD_2
    _require_networks(header, kind)
    return kind


def training_of(header: Header, kind: Kind, spec: ModelSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the UNet was trained with beside what its kind is: settings of its scheduler, and of itself.

    Raises InvalidSettings for 2.x where neither the file nor `spec` says what it predicts.
    """
    prediction = spec.prediction or _stated_prediction(header)
    if prediction is None and kind is SD_2:
        raise InvalidSettings(
            f"“{header.name}” is Stable Diffusion 2.x. Those for 512 pixels predict the noise, those for 768 predict "
            "v, and the file does not say which it does. Say it: FORWARDINF_PREDICTION=epsilon or v_prediction."
        )
    scheduler: dict[str, Any] = {"prediction_type": prediction or "epsilon"}
    if "ztsnr" in header.shapes:
        scheduler |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    if (size := _stated_size(header)) is None and kind is SD_2 and prediction == "v_prediction":
        size = [96, 96]
    return scheduler, {} if size is None else {"sample_size": size[0] if size[0] == size[1] else size}


def _stated_prediction(header: Header) -> str | None:
    """By the key that v-predicting merges carry, or as modelspec or kohya's sd-scripts write it."""
    stated = header.metadata.get("modelspec.prediction_type", "")
    if "v_pred" in header.shapes or stated.startswith("v") or header.metadata.get("ss_v_parameterization") == "True":
        return "v_prediction"
    return "epsilon" if stated.startswith("eps") else None


def _stated_size(header: Header) -> list[int] | None:
    """Height and width of latents, as modelspec writes the width and height of pictures."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", header.metadata.get("modelspec.resolution", ""))
    if found is None:
        return None
    width, height = int(found[1]), int(found[2] or found[1])
    return [height // 8, width // 8]


def _require_networks(header: Header, kind: Kind) -> None:
    if not any(map(header.below, AUTOENCODERS)):
        raise UnsupportedModel(_lacking(header, kind, "autoencoder", AUTOENCODERS[0]))
    for _, beginning in kind.encoders:
        if not header.below(beginning):
            raise UnsupportedModel(_lacking(header, kind, "text encoder", beginning))


def _lacking(header: Header, kind: Kind, network: str, beginning: str) -> str:
    return (
        f"“{header.name}” is {kind.title} without its {network} ({beginning}…). Try the whole checkpoint: one that was "
        "cut down to its UNet leaves open which other networks it was trained with."
    )


def _other(header: Header) -> str:
    if is_adapter(header.shapes):
        return f"“{header.name}” is a LoRA, not a checkpoint. Name it with --lora, and with --model its base."
    for pattern, what in _STRANGERS:
        if any(re.search(pattern, key) for key in header.shapes):
            return f"“{header.name}” {what}. {_READ}: try the checkpoint of one, or a folder in diffusers' format."
    keys = shown(list(header.shapes), most=2) or "no tensors"
    return f"“{header.name}” has {keys}, and no UNet ({UNET}…), so it is no checkpoint that can be read. {_READ}."
