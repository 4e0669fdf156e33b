"""The command line's `train`: go on training the shipped model, and fit its embedder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..config import ASSETS
from .options import WORK, Work, progress_bar, reporting_to

EMOJI, EMOJI_DIFFUSION = ASSETS / "emoji", ASSETS / "emoji-diffusion"

Images = Annotated[int, typer.Option(help="train until this many images have been seen, over all sittings")]
Device = Annotated[str, typer.Option(help="torch device")]

train = typer.Typer(no_args_is_help=True, help="Train the shipped model, resumably, and the embedder.")


@train.command("continue")
def train_continue(work: Work = WORK) -> None:
    """Lay the shipped model out in WORK, so that its training continues there."""
    from ..training.release import unrelease

    unrelease(EMOJI_DIFFUSION, work)


@train.command("vae")
def train_vae(images: Images, work: Work = WORK, device: Device = "cpu") -> None:
    """Train the autoencoder and write it to WORK/pipeline/vae."""
    from ..training.vae import train_vae as run

    run(EMOJI, work, images, device)


@train.command("decoder")
def train_decoder(images: Images, work: Work = WORK, device: Device = "cpu") -> None:
    """Train only the autoencoder's decoder further; latents, and so the UNet, are not touched."""
    from ..training.vae import train_decoder as run

    run(EMOJI, work, images, device)


@train.command("diffusion")
def train_diffusion(images: Images, work: Work = WORK, device: Device = "cpu") -> None:
    """Train the text encoder and the UNet on the latents of WORK/pipeline/vae, and write WORK/pipeline."""
    from ..training.diffusion import train_diffusion as run

    run(EMOJI, work, images, device)


@train.command("embedder")
def train_embedder(
    out: Annotated[Path, typer.Option(help="folder to write")] = ASSETS / "artwork-embedder",
    copies: Annotated[int, typer.Option(min=1, help="disguised copies of each training picture")] = 4,
    seed: Annotated[int, typer.Option(help="of the disguises")] = 0,
) -> None:
    """Fit the embedder `artwork` to the training pictures; takes half a minute and needs no WORK."""
    from ..training.embedder import fit_embedder

    with progress_bar("img") as bar:
        fit_embedder(EMOJI, out, copies, seed, reporting_to(bar))
    typer.echo(f"{out}: written")
