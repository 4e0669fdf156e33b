"""The lab: a small model that is trained again on many subsets of its images, so that the effect of each is known.

The shipped UNet with fewer channels, on the shipped autoencoder and text encoder, which are not trained. It starts from
weights trained once on the artwork's reserve, which no index holds, and is then trained on the lab's images or a subset
of them. This is the setting of the ArtBench experiments of Zheng et al. 2024 (arXiv 2311.00500), which fine-tune a
pretrained model on each subset; as there, every image is seen equally often, whatever the size of the subset.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..examples.catalog import Catalog
from ..models.sd import StableDiffusion, load
from ..types import ModelSpec
from .diffusion import EMPTY_SHARE, encode, new_unet, weighted_loss
from .loop import Plan, Trainer, averaged
from .pictures import load_pictures

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

Weights = dict[str, torch.Tensor]
BATCH = 64


@dataclass(frozen=True)
class Recipe:
    """How the lab's models are trained; counts are images seen."""

    channels: tuple[int, ...] = (32, 48, 64)
    heads: tuple[int, ...] = (1, 2, 2)
    start_total: int = 150_000
    start_learning_rate: float = 1e-3
    passes: int = 24  # over the images of a subset
    learning_rate: float = 5e-4

    def new_unet(self) -> UNet2DConditionModel:
        """An untrained UNet, the same every time."""
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return new_unet(self.channels, self.heads).to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class LabImages:
    """Training images as the UNet receives them."""

    ids: tuple[str, ...]
    latents: torch.Tensor  # [n c h w]
    contexts: torch.Tensor  # [n t hidden], of their captions
    empty: torch.Tensor  # [1 t hidden], of the empty caption

    @classmethod
    @torch.no_grad()
    def of(cls, model: StableDiffusion, catalog: Catalog) -> LabImages:
        latents = encode(model.vae, load_pictures(catalog))
        tokens = model.encode_prompt([image.caption for image in catalog.images])
        contexts = [model.text_encoder(part)[0] for part in tokens.split(256)]
        empty = model.text_encoder(model.encode_prompt([""]))[0]
        return cls(tuple(image.id for image in catalog.images), latents, torch.cat(contexts), empty)


def train_start(recipe: Recipe, model: StableDiffusion, reserve: LabImages, work: Path) -> Weights:
    """The initial weights of all trainings, trained from scratch on the artwork's reserve; resumes in `work`."""
    plan = Plan(recipe.start_total, BATCH, recipe.start_learning_rate, warmup=100 * BATCH, average_over=8_000)
    return _trained(recipe.new_unet(), model, reserve, plan, work, seed=0)


def train_on(
    recipe: Recipe, model: StableDiffusion, start: Weights, images: LabImages, rows: Sequence[int], seed: int
) -> Weights:
    """The weights after `recipe.passes` over the images in `rows`, from `start`; a pure function of its arguments."""
    chosen = list(rows)
    part = LabImages(
        tuple(images.ids[row] for row in chosen), images.latents[chosen], images.contexts[chosen], images.empty
    )
    total = -(-recipe.passes * len(chosen) // BATCH) * BATCH
    plan = Plan(total, BATCH, recipe.learning_rate, warmup=10 * BATCH, average_over=2_000, save_every_s=1e9)
    unet = recipe.new_unet()
    unet.load_state_dict(start)
    with tempfile.TemporaryDirectory(prefix="forwardinf-lab-") as work:
        return _trained(unet, model, part, plan, Path(work), seed + 1)


def load_lab(
    recipe: Recipe, shipped: Path, weights: Weights, tunable: str = "all", device: str = "cpu"
) -> StableDiffusion:
    """The shipped pipeline with the lab's UNet."""
    pipeline = load(ModelSpec(str(shipped))).pipeline
    unet = recipe.new_unet()
    unet.load_state_dict(weights)
    pipeline.register_modules(unet=unet)
    return StableDiffusion(pipeline, ModelSpec("lab", device=device, tunable=tunable, fit="pad"))


def _trained(
    unet: UNet2DConditionModel, model: StableDiffusion, images: LabImages, plan: Plan, work: Path, seed: int
) -> Weights:
    """The running average of the weights at the end of `plan`."""
    unet.train().requires_grad_(True)
    alphas = model.pipeline.scheduler.alphas_cumprod
    final: Weights = {}

    def loss_of(seen: int, n: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(seed * 2**32 + seen)
        # Every pass shows every image once, in a new order.
        rows = _order(len(images.ids), seed, seen, n)
        empty = torch.rand(n, 1, 1, generator=random) < EMPTY_SHARE
        context = torch.where(empty, images.empty, images.contexts[rows])
        return weighted_loss(unet, alphas, images.latents[rows], context, random)

    def keep() -> None:
        final.update({name: weights.detach().clone() for name, weights in unet.state_dict().items()})

    trainer = Trainer({"unet": unet}, plan, work)
    trainer.run(loss_of, keep)
    if not final:  # it had been finished before
        with averaged(trainer):
            keep()
    return final


def _order(count: int, seed: int, seen: int, n: int) -> torch.Tensor:
    """The rows at positions `seen` to `seen + n` of a run of passes, each of which shuffles all `count` images."""
    places = [divmod(position, count) for position in range(seen, seen + n)]
    laps = {
        lap: torch.randperm(count, generator=torch.Generator().manual_seed(seed * 2**16 + lap)) for lap, _ in places
    }
    return torch.stack([laps[lap][place] for lap, place in places])
