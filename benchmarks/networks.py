"""Stable Diffusion 1.5 and SDXL with random weights: the sizes of the real ones, or small, and nothing to download."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from forwardinf.models.sd import StableDiffusion
from forwardinf.models.sdxl import StableDiffusionXL
from forwardinf.training.vocabulary import learn_tokenizer
from forwardinf.types import ModelSpec

TUNABLE = "cross-attention k,v"
SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "clip_sample": False,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
}
SMALL_VAE = {
    **VAE,
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
SD_15 = {"sample_size": 64, "cross_attention_dim": 768}
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 6 * 256 + 1280,
}
SMALL_SD_15 = {"sample_size": 8, "cross_attention_dim": 16, "block_out_channels": (8, 16, 16, 16), "norm_num_groups": 4}
SMALL_SDXL = {
    **SDXL,
    "sample_size": 16,
    "block_out_channels": (8, 16, 16),
    "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (2, 4, 4),
    "cross_attention_dim": 48,
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 6 * 4 + 32,
    "norm_num_groups": 4,
}


def stable_diffusion(device: str, dtype: str, small: bool) -> StableDiffusion:
    """SD 1.5 (512 px), or in small (64 px)."""
    tokenizer = _tokenizer()
    with torch.device(device):
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL(**(SMALL_VAE if small else VAE)),
            unet=UNet2DConditionModel(**(SMALL_SD_15 if small else SD_15)),
            text_encoder=CLIPTextModel(_text(tokenizer, 16, 1) if small else _text(tokenizer, 768, 12)),
            tokenizer=tokenizer,
            scheduler=DDIMScheduler(**SCHEDULER),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    return StableDiffusion(pipeline, ModelSpec("sd-1.5-random", dtype=dtype, device=device, tunable=TUNABLE))


def stable_diffusion_xl(device: str, dtype: str, small: bool) -> StableDiffusionXL:
    """SDXL (1024 px), or in small (128 px)."""
    tokenizer = _tokenizer()
    (width, layers), (other, more) = ((16, 2), (32, 2)) if small else ((768, 12), (1280, 32))
    first, second = _text(tokenizer, width, layers), _text(tokenizer, other, more)
    with torch.device(device):
        pipeline = StableDiffusionXLPipeline(
            vae=AutoencoderKL(**(SMALL_VAE if small else VAE), force_upcast=True),
            unet=UNet2DConditionModel(**(SMALL_SDXL if small else SDXL)),
            text_encoder=CLIPTextModel(first),
            text_encoder_2=CLIPTextModelWithProjection(second),
            tokenizer=tokenizer,
            tokenizer_2=_tokenizer(),
            scheduler=DDIMScheduler(**SCHEDULER),
            add_watermarker=False,
        )
    return StableDiffusionXL(pipeline, ModelSpec("sdxl-random", dtype=dtype, device=device, tunable=TUNABLE))


def _tokenizer() -> CLIPTokenizer:
    tokenizer = learn_tokenizer(["a photograph of a red apple on a table"], size=600)
    tokenizer.model_max_length = 77
    return tokenizer


def _text(tokenizer: CLIPTokenizer, width: int, layers: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
