"""Checkpoints as people have them: what their configuration asks for is done, or they are refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from test_carry_over import sdxl

from conftest import CAPTIONS, tiny_pipeline, tiny_unet
from forwardinf.errors import MissingAsset, UnsupportedModel
from forwardinf.models.registry import load_model
from forwardinf.models.sd import StableDiffusion
from forwardinf.models.sdxl import StableDiffusionXL
from forwardinf.training.vocabulary import learn_tokenizer
from forwardinf.types import ModelSpec

MEAN, STD = [-1.6, 2.2, 0.1, -0.2], [8.4, 5.4, 5.3, 4.6]


def unet(**config: object) -> Callable[[Any], None]:
    return lambda pipeline: pipeline.register_modules(unet=tiny_unet(**{"cross_attention_dim": 8, **config}))


def told(component: str, **config: object) -> Callable[[Any], None]:
    return lambda pipeline: getattr(pipeline, component).register_to_config(**config)


def longer_tokenizer(pipeline: Any) -> None:
    pipeline.tokenizer.model_max_length = 77


def larger_tokenizer(pipeline: Any) -> None:
    captions = [*CAPTIONS, "a violin in the rain", "the quick brown fox jumps over the lazy dog"]
    pipeline.register_modules(tokenizer=learn_tokenizer(captions * 9, size=700))


UNHONOURED: dict[str, tuple[Callable[[Any], None], str]] = {
    "inpainting": (unet(in_channels=9), "takes 9 channels.*latents have 4"),
    "instruct-pix2pix": (unet(in_channels=8), "takes 8 channels"),
    "learned variance": (unet(out_channels=8), "predicts 8 channels"),
    "LCM": (unet(time_cond_proj_dim=16), "guidance scale.*time_cond_proj_dim"),
    "upscaler": (unet(num_class_embeds=10), "num_class_embeds"),
    "unCLIP": (
        unet(class_embed_type="projection", projection_class_embeddings_input_dim=8),
        "image embedding.*class_embed_type",
    ),
    "Kandinsky": (
        unet(encoder_hid_dim_type="image_proj", encoder_hid_dim=8),
        "encoder_hid_dim_type",
    ),
    "SDXL's UNet": (
        unet(
            addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + 12
        ),
        "“text_time”; this family's is “None”",
    ),
    "another text encoder": (unet(cross_attention_dim=16), "reads 16 numbers per token.*give 8"),
    "no size": (told("unet", sample_size=None), r"no sample_size.*unet/config\.json"),
    "not square": (told("unet", sample_size=[8, 12]), "8 × 12.*square"),
    "shifted latents": (told("vae", shift_factor=0.06), "shift_factor"),
    "standardised latents": (told("vae", latents_mean=MEAN, latents_std=STD), "latents_mean and latents_std"),
    "transparency": (told("vae", in_channels=4), "takes 4 channels"),
    "another tokenizer's length": (longer_tokenizer, "cuts prompts at 77 tokens.*at most 24"),
    "another tokenizer's words": (larger_tokenizer, "tokens, but the text encoder knows"),
}


@pytest.mark.parametrize("kind", UNHONOURED)
def test_what_a_configuration_asks_for_in_vain_is_refused(kind: str):
    change, told = UNHONOURED[kind]
    pipeline = tiny_pipeline()
    change(pipeline)
    with pytest.raises(UnsupportedModel, match=told):
        StableDiffusion(pipeline, ModelSpec("tiny"))


def test_a_size_in_two_equal_numbers_is_one():
    pipeline = tiny_pipeline()
    pipeline.unet.register_to_config(sample_size=[8, 8])
    model = StableDiffusion(pipeline, ModelSpec("tiny"))
    assert model.picture_size == 16


def test_sdxl_standardises_latents_as_its_pipeline_expects_them():
    pipeline = sdxl()
    plain = StableDiffusionXL(pipeline, ModelSpec("tiny"))
    square = Image.linear_gradient("L").resize((16, 16)).convert("RGB")
    before = plain.encode_image([square]) / plain.vae.config.scaling_factor
    pipeline.vae.register_to_config(latents_mean=MEAN, latents_std=STD, scaling_factor=0.5)
    latents = StableDiffusionXL(pipeline, ModelSpec("tiny")).encode_image([square])
    mean, std = (torch.tensor(values).view(1, 4, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(latents * std / 0.5 + mean, before)  # as the pipeline decodes


@pytest.mark.parametrize("given", [{"latents_mean": MEAN}, {"latents_std": STD}])
def test_half_of_the_statistics_is_refused(given: dict[str, list[float]]):
    pipeline = sdxl()
    pipeline.vae.register_to_config(**given)
    with pytest.raises(UnsupportedModel, match=next(iter(given))):
        StableDiffusionXL(pipeline, ModelSpec("tiny"))


@pytest.mark.parametrize("missing", ["tokenizer", "text_encoder", "vae", "scheduler"])
def test_a_component_whose_folder_is_missing_is_named(missing: str, tiny_checkpoint: Path, tmp_path: Path):
    shutil.copytree(tiny_checkpoint, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / missing)
    with pytest.raises(MissingAsset, match=f"“cut” names a {missing} .*{missing}/ is missing"):
        load_model(ModelSpec(str(tmp_path / "cut")))


def test_a_tokenizer_that_was_loaded_empty_is_refused(tiny_checkpoint: Path, tmp_path: Path):
    shutil.copytree(tiny_checkpoint, tmp_path / "cut")
    for file in (tmp_path / "cut" / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(UnsupportedModel, match=r"no length at which to cut.*complete copy"):
        load_model(ModelSpec(str(tmp_path / "cut")))
