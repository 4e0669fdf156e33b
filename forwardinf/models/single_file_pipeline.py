"""The pipeline of a checkpoint in one file: networks of known configuration, filled with the file's weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from ..errors import DamagedAsset, UnsupportedModel
from .adapter_file import shown
from .clip_tokenizer import END, clip_tokenizer
from .single_file import AUTOENCODERS, UNET, Kind, training_of
from .weights_file import Header

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..types import ModelSpec

ORIGINAL = Path(__file__).parent / "original"  # configurations, by kind
_OPEN_CLIP = ".model."  # how the keys of an encoder of OpenCLIP's code begin, at the end
_MOST = 3


def networks_of(header: Header, kind: Kind, spec: ModelSpec) -> dict[str, Any]:
    """The components of the pipeline of a file of this kind, in float32 and by name.

    Raises DamagedAsset naming weights that are missing, UnsupportedModel naming those that fit no place.
    """
    scheduling, trained = training_of(header, kind, spec)
    folder = str(ORIGINAL / kind.folder)
    schedule = diffusers.DDIMScheduler.load_config(folder, subfolder="scheduler")  # of whichever class
    scheduler = getattr(diffusers, schedule["_class_name"]).from_config({**schedule, **scheduling})
    components = {"scheduler": scheduler, "unet": _unet(header, folder, trained), "vae": _autoencoder(header, folder)}
    for name, beginning in kind.encoders:
        components[name] = _text_encoder(header, folder, name, beginning)
        pad = "!" if beginning.endswith(_OPEN_CLIP) else END
        components[name.replace("text_encoder", "tokenizer")] = clip_tokenizer(pad)
    return components


def _unet(header: Header, folder: str, trained: Mapping[str, Any]) -> UNet2DConditionModel:
    config = {**UNet2DConditionModel.load_config(folder, subfolder="unet"), **trained}
    with init_empty_weights():
        unet = UNet2DConditionModel.from_config(config)
    keys = header.below(UNET)
    try:  # it only renames, so a name can stand for its weights
        names: dict[str, str] = convert_ldm_unet_checkpoint({key: key for key in keys}, config)
    except KeyError as error:
        raise DamagedAsset(_incomplete(header, "UNet", error.args)) from error
    if unplaced := set(keys) - set(names.values()):
        raise UnsupportedModel(_foreign(header, "UNet", unplaced))
    weights = _read(header, [key for key in names.values() if key])
    return _filled(unet, {name: weights[key] for name, key in names.items() if key}, header, "UNet")


def _autoencoder(header: Header, folder: str) -> AutoencoderKL:
    config = AutoencoderKL.load_config(folder, subfolder="vae")
    with init_empty_weights():
        vae = AutoencoderKL.from_config(config)
    beginning = next(filter(header.below, AUTOENCODERS))
    weights = convert_ldm_vae_checkpoint(_read(header, header.below(beginning)), config)
    return _filled(vae, weights, header, "autoencoder")


def _text_encoder(header: Header, folder: str, name: str, beginning: str) -> CLIPTextModel:
    """SDXL's second has a projection; transformers keeps a prefix for its weights that it dropped for others'."""
    projects = name == "text_encoder_2"
    with init_empty_weights():
        config = CLIPTextConfig.from_pretrained(f"{folder}/{name}")
        encoder = (CLIPTextModelWithProjection if projects else CLIPTextModel)(config)
    read = _read(header, header.below(beginning))
    if beginning.endswith(_OPEN_CLIP):
        weights = convert_open_clip_checkpoint(encoder, read, prefix=beginning)
    else:
        weights = convert_ldm_clip_checkpoint(read, beginning)
    if not projects:
        weights = {key.removeprefix("text_model."): value for key, value in weights.items()}
    numbering = "embeddings.position_ids"  # which earlier releases of transformers saved
    return _filled(encoder, {key: w for key, w in weights.items() if numbering not in key}, header, "text encoder")


def _read(header: Header, keys: Iterable[str]) -> dict[str, Tensor]:
    with safe_open(header.path, framework="pt") as file:
        return {key: file.get_tensor(key).float() for key in keys}


def _filled(network: nn.Module, weights: Mapping[str, Tensor], header: Header, what: str) -> Any:  # noqa: ANN401
    """The network, made of these weights; raises DamagedAsset or UnsupportedModel where they are not all of its own."""
    places = network.state_dict()
    if missing := places.keys() - weights.keys():
        raise DamagedAsset(_incomplete(header, what, missing))
    if unknown := weights.keys() - places.keys():
        raise UnsupportedModel(_foreign(header, what, unknown))
    if wrong := [name for name, place in places.items() if place.shape != weights[name].shape]:
        sizes = " × ".join(map(str, weights[wrong[0]].shape)), " × ".join(map(str, places[wrong[0]].shape))
        raise UnsupportedModel(
            f"“{header.name}” has another {what} than the original models: “{wrong[0]}” is {sizes[0]} instead of "
            f"{sizes[1]}. Try the checkpoint as a folder in diffusers' format, whose configuration says its sizes."
        )
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _incomplete(header: Header, what: str, missing: Iterable[str]) -> str:
    names = sorted(map(str, missing))
    return f"“{header.name}” lacks {len(names):,} weights of its {what}: {shown(names, _MOST)}. Fetch it again."


def _foreign(header: Header, what: str, unknown: Iterable[str]) -> str:
    names = sorted(unknown)
    return (
        f"“{header.name}” has {len(names):,} weights in its {what} that the original models do not have: "
        f"{shown(names, _MOST)}. Its losses would be wrong without them. Try the checkpoint that it was made from."
    )
