"""Train the text encoder and the UNet together, from scratch, on the autoencoder's latents.

    forwardinf train diffusion --images 600000

v-prediction on a noise schedule with zero terminal SNR (Lin et al. 2024, arXiv 2305.08891), so that white backgrounds
can be white; min-SNR weights (Hang et al. 2023, arXiv 2303.09556, eq. 8 for v); a share of captions is emptied for
classifier-free guidance, and a share loses its style, so that "red apple" alone is understood too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..examples.catalog import Catalog
from .loop import Plan, Trainer
from .pictures import load_pictures, tiled, to_model_range
from .vocabulary import MAX_TOKENS, learn_tokenizer

HIDDEN = 128
EMPTY_SHARE, SUBJECT_ONLY_SHARE = 0.10, 0.10
MIN_SNR_GAMMA = 5.0
SHEET_PROMPTS = (
    "red apple, OpenMoji style", "red apple, Fluent style", "red apple, Noto style", "red apple, Twemoji style",
    "snail, OpenMoji style", "flamingo, Fluent style", "pineapple, Noto style", "burrito, Twemoji style",
    "grinning face, Noto style", "cat face, Fluent style", "pizza, Twemoji style", "octopus, OpenMoji style",
    "guitar, Noto style", "soccer ball, Twemoji style", "key, Fluent style", "cherries, OpenMoji style",
)  # fmt: skip


def new_unet(channels: tuple[int, ...] = (64, 128, 192), heads: tuple[int, ...] = (2, 4, 6)) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        block_out_channels=channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=HIDDEN,
        attention_head_dim=heads,
        norm_num_groups=16,
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=4 * HIDDEN,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=HIDDEN,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def released_or_new(pipeline: Path, tokenizer: CLIPTokenizer) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """The networks of an earlier run if there are any, otherwise untrained ones."""
    if not (pipeline / "unet").exists():
        return new_text_encoder(tokenizer), new_unet()
    text = CLIPTextModel.from_pretrained(pipeline / "text_encoder", dtype=torch.float32)
    return text, UNet2DConditionModel.from_pretrained(pipeline / "unet", dtype=torch.float32)


def train_diffusion(artwork: Path, work: Path, images: int, device: str, batch: int = 64) -> None:
    """Train to `images` seen, resuming from `work`; at every checkpoint `work/pipeline` holds the averaged weights."""
    catalog = Catalog.load(artwork).of_split("train")
    captions = [image.caption for image in catalog.images]
    torch.manual_seed(0)
    tokenizer = learn_tokenizer(captions)
    vae = AutoencoderKL.from_pretrained(work / "pipeline" / "vae")
    text, unet = released_or_new(work / "pipeline", tokenizer)
    text, unet = text.to(device), unet.to(device, memory_format=torch.channels_last)
    latents = encode(vae, load_pictures(catalog)).to(device)
    tokens = tokenize(tokenizer, captions).to(device)
    subjects = tokenize(tokenizer, [image.subject for image in catalog.images]).to(device)
    empty = tokenize(tokenizer, [""]).to(device)
    shows = torch.tensor([image.repeats for image in catalog.images], dtype=torch.float32)
    scheduler = new_scheduler()
    alphas = scheduler.alphas_cumprod.to(device)

    plan = Plan(images, batch=batch, learning_rate=1e-3, warmup=300 * batch, average_over=15_000, save_every_s=400)
    trainer = Trainer({"text_encoder": text, "unet": unet}, plan, work / "diffusion")

    def loss_of(seen: int, n: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(seen)
        chosen = torch.multinomial(shows, n, replacement=True, generator=random).to(device)
        fate = torch.rand(n, 1, generator=random).to(device)
        ids = torch.where(fate < EMPTY_SHARE + SUBJECT_ONLY_SHARE, subjects[chosen], tokens[chosen])
        ids = torch.where(fate < EMPTY_SHARE, empty, ids)
        return weighted_loss(unet, alphas, latents[chosen], text(ids)[0], random)

    def save() -> None:
        pipeline = StableDiffusionPipeline(
            vae=vae,
            text_encoder=text,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        pipeline.save_pretrained(work / "pipeline")
        draw = generator_of(pipeline, device)
        sheet = tiled([draw(prompt) for prompt in SHEET_PROMPTS], columns=8)
        sheet.save(work / f"sheet-{trainer.seen:08d}.png")

    trainer.run(loss_of, save)


def weighted_loss(
    unet: UNet2DConditionModel, alphas: torch.Tensor, x_0: torch.Tensor, context: torch.Tensor, random: torch.Generator
) -> torch.Tensor:
    """Mean min-SNR-weighted error of v over latents `[n c h w]` with their prompts `[n t hidden]`; `alphas [T]`.

    Timesteps are stratified: every batch covers the whole schedule.
    """
    n, device = len(x_0), x_0.device
    u = (torch.arange(n) + torch.rand(n, generator=random)) / n
    t = (u * len(alphas)).long().to(device)
    eps = torch.randn(x_0.shape, generator=random).to(device)
    alpha = alphas[t].view(-1, 1, 1, 1)
    x_t = alpha.sqrt() * x_0 + (1 - alpha).sqrt() * eps
    v = alpha.sqrt() * eps - (1 - alpha).sqrt() * x_0
    predicted = unet(x_t.contiguous(memory_format=torch.channels_last), t, context).sample
    snr = (alpha / (1 - alpha)).flatten()
    weight = snr.clamp(max=MIN_SNR_GAMMA) / (snr + 1)
    return (weight * (predicted - v).square().mean(dim=(1, 2, 3))).mean() / weight.mean()


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    """Posterior means, scaled as the UNet sees them, `[n c h w]`."""
    batches = [vae.encode(to_model_range(p)).latent_dist.mean for p in pictures.split(256)]
    return torch.cat(batches) * vae.config.scaling_factor


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids `[n MAX_TOKENS]`."""
    return tokenizer(
        captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    ).input_ids


def generator_of(pipeline: StableDiffusionPipeline, device: str) -> Callable[[str], Image.Image]:
    """A function from a prompt to its picture: seed 7, 25 steps, guidance 5."""

    def picture(prompt: str) -> Image.Image:
        return pipeline(
            prompt, num_inference_steps=25, guidance_scale=5.0, generator=torch.Generator(device).manual_seed(7)
        ).images[0]

    return picture
