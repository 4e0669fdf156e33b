"""Train the autoencoder: 64×64 RGB to 8×8 latents of 16 channels.

    forwardinf train vae --images 70000
    forwardinf train decoder --images 70000     # later, with a trained UNet

The loss is MSE + L1 + L1 of image gradients, with a small KL term; pictures are flipped and shifted over white.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from ..examples.catalog import Catalog
from .loop import Plan, Trainer, averaged
from .pictures import load_pictures, to_model_range

KL_WEIGHT = 1e-6
SHIFT = 4


def new_vae() -> AutoencoderKL:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=64,
        scaling_factor=1.0,
    )
    # Start with little posterior noise: at unit variance it drowns the untrained mean, and training can stay there.
    torch.nn.init.constant_(vae.quant_conv.bias[16:].data, -6.0)
    return vae


def released_or_new(folder: Path) -> AutoencoderKL:
    """The autoencoder of an earlier run if there is one, otherwise an untrained one."""
    return AutoencoderKL.from_pretrained(folder, dtype=torch.float32) if folder.exists() else new_vae()


def train_vae(artwork: Path, work: Path, images: int, device: str, batch: int = 16) -> None:
    """Train to `images` seen, resuming from `work`, and write the averaged weights to `work/pipeline/vae`."""
    pictures = load_pictures(Catalog.load(artwork).of_split("train")).to(device)
    torch.manual_seed(0)
    vae = released_or_new(work / "pipeline" / "vae").to(device, memory_format=torch.channels_last)
    plan = Plan(images, batch=batch, learning_rate=1e-3, warmup=200 * batch, average_over=3000)
    trainer = Trainer({"vae": vae}, plan, work / "vae")

    def loss_of(seen: int, n: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(seen)
        x = drawn(pictures, n, random)
        posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=random).to(device)
        y = vae.decode(posterior.mean + posterior.std * noise).sample
        return reconstruction_loss(y, x) + KL_WEIGHT * posterior.kl().mean()

    trainer.run(loss_of)
    with averaged(trainer):
        standardise_latents(vae, pictures)
        save(vae, work)


def train_decoder(artwork: Path, work: Path, images: int, device: str, batch: int = 16) -> None:
    """Train only the decoder, so that a UNet trained on these latents stays valid.

    Starts from `work/pipeline/vae` and replaces it by the averaged weights; resumes from `work`.
    """
    pictures = load_pictures(Catalog.load(artwork).of_split("train")).to(device)
    vae = AutoencoderKL.from_pretrained(work / "pipeline" / "vae").to(device, memory_format=torch.channels_last)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    plan = Plan(images, batch=batch, learning_rate=1e-3, warmup=200 * batch, average_over=3000)
    trainer = Trainer({"decoder": vae}, plan, work / "decoder")

    def loss_of(seen: int, n: int) -> torch.Tensor:
        x = drawn(pictures, n, torch.Generator().manual_seed(seen))
        with torch.no_grad():
            latents = vae.encode(x).latent_dist.mean
        return reconstruction_loss(vae.decode(latents).sample, x)

    trainer.run(loss_of)
    with averaged(trainer):
        save(vae, work)


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    gradients = F.l1_loss(y.diff(dim=2), x.diff(dim=2)) + F.l1_loss(y.diff(dim=3), x.diff(dim=3))
    return 4 * F.mse_loss(y, x) + F.l1_loss(y, x) + 0.5 * gradients


def drawn(pictures: torch.Tensor, n: int, random: torch.Generator) -> torch.Tensor:
    """`n` pictures at random, augmented, channels last."""
    chosen = torch.randint(len(pictures), (n,), generator=random)
    return augmented(pictures[chosen], random).contiguous(memory_format=torch.channels_last)


def save(vae: AutoencoderKL, work: Path) -> None:
    vae.to("cpu", memory_format=torch.contiguous_format).save_pretrained(work / "pipeline" / "vae")


def augmented(pictures: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Float pictures, each flipped half the time and shifted by up to 4 pixels over white."""
    x = F.pad(to_model_range(pictures), (SHIFT,) * 4, value=1.0)
    flips = torch.rand(len(x), generator=random) < 0.5
    tops, lefts = torch.randint(2 * SHIFT + 1, (2, len(x)), generator=random).tolist()
    size = pictures.shape[-1]
    shifted = [p[:, t : t + size, s : s + size] for p, t, s in zip(x, tops, lefts, strict=True)]
    return torch.stack([p.flip(-1) if f else p for p, f in zip(shifted, flips, strict=True)])


@torch.no_grad()
def standardise_latents(vae: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Give every latent channel mean 0 and variance 1 over the training set, by rewriting the two 1×1 convolutions.

    The diffusion model then sees channels of one scale, and the picture decoded from a latent stays the same.
    """
    means = [vae.quant_conv(vae.encoder(to_model_range(p))).chunk(2, dim=1)[0] for p in pictures.split(256)]
    latents = torch.cat(means)
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    c = len(mean)
    encode, decode = vae.quant_conv, vae.post_quant_conv
    encode.weight[:c] /= std[:, None, None, None]
    encode.bias[:c] = (encode.bias[:c] - mean) / std
    encode.bias[c:] -= 2 * std.log()
    decode.bias += decode.weight[:, :, 0, 0] @ mean
    decode.weight *= std[None, :, None, None]
