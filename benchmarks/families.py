"""Whether tiny models of every family find the images that they were trained on.

    python benchmarks/families.py [--families flux ddpm] [--steps 300]

Each model has random weights at first, is trained on 32 pictures of emoji at 16 × 16, saved, loaded and indexed as any
other, and asked about half of the pictures, each with its own caption. Told is how many come first among the 32, by the
default score and by the change of the loss alone, which knows nothing of likeness; with --untrained also before any
training.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from forwardinf.attribution.attributor import Attributor
from forwardinf.config import ASSETS
from forwardinf.errors import InvalidRequest
from forwardinf.examples.catalog import Catalog, TrainingImage
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models.protocol import CaptionedPicture
from forwardinf.models.registry import load_model
from forwardinf.types import Draws, ModelSpec
from tiny_families import FAMILIES, SIDE, tiny

IMAGES, BATCH, STEPS, RATE, SEED = 32, 8, 300, 2e-3, 0
BY_LOSS = ForwardInf(likeness=False, size_draws=0)


@dataclass(frozen=True)
class Found:
    """Ranks of the training images whose own pictures were asked about."""

    ranks: Sequence[int]

    def __str__(self) -> str:
        first = sum(rank == 1 for rank in self.ranks)
        return f"{first}/{len(self.ranks)} first, mAP {sum(1 / r for r in self.ranks) / len(self.ranks):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of training, each on {BATCH} pictures")
    parser.add_argument("--untrained", action="store_true", help="ask also before any training")
    asked = parser.parse_args()
    source = pictures(IMAGES)
    for family in asked.families:
        with tempfile.TemporaryDirectory() as work:
            report(family, source, asked.steps, asked.untrained, Path(work))


def pictures(count: int) -> Catalog:
    """Random training images of the shipped model."""
    artwork = Catalog.load(ASSETS / "emoji")
    chosen = random.Random(SEED).sample(artwork.of_split("train").images, count)
    return replace(artwork, images=tuple(sorted(chosen, key=lambda image: image.id)))


def report(family: str, source: Catalog, steps: int, untrained: bool, work: Path) -> None:
    began = time.perf_counter()
    tiny(family).save_pretrained(work / "untrained")
    if untrained:
        told = found(spec_of(work / "untrained"), source, work / "index-untrained", BY_LOSS)
        print(f"{family}: before training, loss alone {told}", flush=True)
    losses = trained(spec_of(work / "untrained"), source, steps, work / "trained")
    spec = spec_of(work / "trained")
    after = [found(spec, source, work / "index", method) for method in (ForwardInf(), BY_LOSS)]
    print(f"{family}: loss {losses[0]:.2f} to {losses[1]:.2f} in {steps} steps; {time.perf_counter() - began:.0f} s")
    print(f"{family}: default score {after[0]}; loss alone {after[1]}", flush=True)


def spec_of(folder: Path) -> ModelSpec:
    return ModelSpec(str(folder), picture_size=SIDE)


def trained(spec: ModelSpec, source: Catalog, steps: int, out: Path) -> tuple[float, float]:
    """Train a model by its own loss, and save it; the loss at first and at last."""
    model, stream = load_model(spec), torch.Generator().manual_seed(SEED)
    batch = model.encode([CaptionedPicture(i.id, source.picture(i), i.caption) for i in source.images])
    optimiser = torch.optim.Adam(model.tunable_parameters().values(), lr=RATE)
    losses = []
    for _ in range(steps):
        part = batch.at(torch.randperm(len(source.images), generator=stream)[:BATCH].tolist())
        u, noise = torch.rand(BATCH, 1, generator=stream), torch.empty(part.latents.shape)
        draws = Draws(u.clamp(1e-6, 1 - 1e-6), noise.normal_(generator=stream)[:, None])
        optimiser.zero_grad()
        loss = model.loss(part, draws).mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    model.pipeline.save_pretrained(out)
    few = max(1, steps // 10)
    return sum(losses[:few]) / few, sum(losses[-few:]) / few


def found(spec: ModelSpec, source: Catalog, out: Path, method: ForwardInf) -> Found:
    """What is found with an index, made where there is none yet."""
    model = load_model(spec)
    attributor = Attributor(model, build_index(model, source, out, BuildPlan()))
    return Found(ranks_of(attributor, source, source.images[::2], method))


def ranks_of(attributor: Attributor, source: Catalog, images: Sequence[TrainingImage], method: ForwardInf) -> list[int]:
    """The rank of each of some images when its own picture is asked about; the last where no step is found."""
    ranks = []
    for image in images:
        query = attributor.query(source.picture(image), image.caption)
        try:
            *_, last = attributor.follow(query, method)
            ranks.append(last.scores().rank_of(image.id))
        except InvalidRequest:
            ranks.append(len(source.images))
    return ranks


if __name__ == "__main__":
    main()
