"""Tiny pipelines of every family that learns a flow, or pixels: the real classes, of some 10,000 weights each.

Pictures are 16 × 16. Tokenizers are learned from a few words, so nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    UNet2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from forwardinf.training.vocabulary import learn_tokenizer

SIDE = 16  # of a picture, in pixels
WORDS = ("patch", "red", "apple", "green", "pear", "0123456789")
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "sample_size": SIDE,
}
SHIFTED_BY_SIZE = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}
HEADS = {"attention_head_dim": 16, "num_attention_heads": 2}


def sd3(t5: bool = True) -> StableDiffusion3Pipeline:
    tokenizer, other = learn_tokenizer(WORDS, size=600), learn_tokenizer(WORDS, size=590)
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=SIDE // 2,
            in_channels=4,
            out_channels=4,
            num_layers=3,
            **HEADS,
            caption_projection_dim=32,
            joint_attention_dim=24,
            pooled_projection_dim=8 + 12,
            pos_embed_max_size=8,
            qk_norm="rms_norm",
            dual_attention_layers=(0,),
        ),
        vae=_vae(),
        text_encoder=CLIPTextModelWithProjection(_clip(tokenizer, projection_dim=8)),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(_clip(other, projection_dim=12)),
        tokenizer_2=other,
        text_encoder_3=_t5(24) if t5 else None,
        tokenizer_3=_t5_tokenizer() if t5 else None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def flux(guidance: bool = True) -> FluxPipeline:
    """As dev, or as schnell, which takes no guidance and whose schedule is not shifted."""
    tokenizer = learn_tokenizer(WORDS, size=600)
    return FluxPipeline(
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            **HEADS,
            joint_attention_dim=24,
            pooled_projection_dim=16,
            guidance_embeds=guidance,
            axes_dims_rope=(4, 6, 6),
        ),
        vae=_vae(),
        text_encoder=CLIPTextModel(_clip(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=_t5(24),
        tokenizer_2=_t5_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(**(SHIFTED_BY_SIZE if guidance else {})),
    )


def flux2() -> Flux2KleinPipeline:
    tokenizer, vae = _qwen_tokenizer(), AutoencoderKLFlux2(**VAE, latent_channels=4)
    vae.bn.running_mean.fill_(-0.15)
    vae.bn.running_var.fill_(0.03)
    return Flux2KleinPipeline(
        transformer=Flux2Transformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            **HEADS,
            joint_attention_dim=3 * 16,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
        vae=vae,
        text_encoder=Qwen3ForCausalLM(Qwen3Config(**_language_model(tokenizer, layers=28))),
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(**SHIFTED_BY_SIZE, shift=3.0),
    )


def qwen_image() -> QwenImagePipeline:
    tokenizer = _qwen_tokenizer()
    text = _language_model(tokenizer, layers=2)
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    return QwenImagePipeline(
        transformer=QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=3,
            **HEADS,
            joint_attention_dim=16,
            axes_dims_rope=(4, 6, 6),
        ),
        vae=AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[-0.2, 0.2, 0.2, 0.2],
            latents_std=[0.04, 0.03, 0.03, 0.04],
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)),
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(
            **{**SHIFTED_BY_SIZE, "max_shift": 0.9, "max_image_seq_len": 8192}, shift_terminal=0.02
        ),
    )


def z_image() -> ZImagePipeline:
    tokenizer = _qwen_tokenizer()
    return ZImagePipeline(
        transformer=ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=3,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[4, 6, 6],
            axes_lens=[1024, 16, 16],
        ),
        vae=_vae(),
        text_encoder=Qwen3Model(Qwen3Config(**_language_model(tokenizer, layers=2))),
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def ddpm() -> DDPMPipeline:
    return DDPMPipeline(
        unet=UNet2DModel(
            sample_size=SIDE,
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=8,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ),
        scheduler=DDPMScheduler(),
    )


FAMILIES: dict[str, Callable[[], DiffusionPipeline]] = {
    "sd3": sd3, "flux": flux, "ddpm": ddpm, "qwen_image": qwen_image, "z_image": z_image, "flux2": flux2
}  # fmt: skip


def tiny(family: str, seed: int = 0, **told: bool) -> DiffusionPipeline:
    """A tiny pipeline of a family, with random weights of the sizes that its classes start with."""
    torch.manual_seed(seed)
    pipeline = FAMILIES[family](**told)
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        if (encoder := getattr(pipeline, name, None)) is not None:  # some states are read before any norm
            torch.nn.init.normal_(encoder.get_input_embeddings().weight)
    return pipeline


def _vae() -> AutoencoderKL:
    return AutoencoderKL(**VAE, latent_channels=4, scaling_factor=5.0, shift_factor=-0.05)


def _clip(tokenizer: CLIPTokenizer, **config: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16 if not config else 8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **config,
    )


def _t5(width: int) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=160, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2))


def _t5_tokenizer() -> T5TokenizerFast:
    start = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    return T5TokenizerFast(vocab=[*start, *letters, *((f"▁{word}", -1.0) for word in WORDS[:-1])], model_max_length=512)


def _qwen_tokenizer() -> Qwen2Tokenizer:
    learner = Tokenizer(BPE())
    learner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=700, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    learner.train_from_iterator([*WORDS, *_said()] * 3, trainer)
    vocab, merges = learner.get_vocab(), _merges(learner)
    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=CHAT,
    )
    return tokenizer


def _said() -> Sequence[str]:
    """What the pipelines' templates say, so that they take about as many tokens as by the real tokenizers."""
    return (
        "system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
        "relationships of the objects and background:",
        "user\n", "assistant\n",
    )  # fmt: skip


def _merges(learner: Tokenizer) -> list[tuple[str, str]]:
    import json

    return [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]


def _language_model(tokenizer: Qwen2Tokenizer, layers: int) -> dict[str, object]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 2048,
    }
