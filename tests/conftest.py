"""Tiny models built from configs, and the shipped assets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from forwardinf.models.stable_diffusion import StableDiffusion
from forwardinf.training.vocabulary import learn_tokenizer
from forwardinf.types import ModelSpec

ASSETS = Path(__file__).parent.parent / "assets"
CAPTIONS = ["red apple, OpenMoji style", "green pear, Noto style"]


def tiny_pipeline(prediction_type: str = "v_prediction", seed: int = 0) -> StableDiffusionPipeline:
    """An untrained Stable Diffusion of a few thousand weights: 16×16 pictures, 8×8×4 latents."""
    torch.manual_seed(seed)
    tokenizer = learn_tokenizer(CAPTIONS, size=600)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        layers_per_block=1,
        sample_size=16,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(
            prediction_type=prediction_type, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def write_patches(folder: Path, count: int) -> Path:
    """An image folder of smooth colour patches."""
    random = np.random.default_rng(0)
    with (folder / "metadata.jsonl").open("w") as lines:
        for i in range(count):
            patch = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((32, 32))
            patch.save(folder / f"{i:02}.png")
            row = {"file_name": f"{i:02}.png", "text": f"patch {i}", "creator": "Ada", "licence": "CC0-1.0"}
            lines.write(json.dumps(row) + "\n")
    return folder


@pytest.fixture
def tiny_model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "pipeline"
    tiny_pipeline().save_pretrained(folder)
    return folder
