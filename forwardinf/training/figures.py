"""The shipped model's figures, measured: reconstruction, speed, memory, and how well prompts are followed.

forwardinf model figures
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict

import torch
import torch.nn.functional as F
from PIL import Image

from ..examples.catalog import Catalog, TrainingImage
from ..models.generation import GenerationRequest
from ..models.sd import StableDiffusion, load
from ..types import ModelSpec
from .pictures import load_pictures

PROMPTS, SEED = 200, 1234
FORWARD_BATCH = 64


class Figures(TypedDict):
    """Every figure on the model card; shares are between 0 and 1."""

    parameters_unet: int
    threads: int
    vae_held_out_psnr_db: float
    unet_latents_per_second: float
    picture_seconds: float
    app_peak_memory_gb: float
    prompts: int
    nearest_of_prompted_collection: float
    prompted_caption_in_top_5: float
    repeated_regenerated: float
    repeated_images: int


LABELS = {
    "parameters_unet": "parameters of the UNet",
    "threads": "threads",
    "vae_held_out_psnr_db": "reconstruction of held-out pictures, PSNR in dB",
    "unet_latents_per_second": f"UNet forward, latents per second, batch {FORWARD_BATCH}, float32",
    "picture_seconds": "one picture, seconds",
    "app_peak_memory_gb": "peak memory of the app while attributing, GB",
    "prompts": "pictures generated",
    "nearest_of_prompted_collection": "share whose nearest training image is of the prompted collection",
    "prompted_caption_in_top_5": "share whose prompted caption is among the 5 nearest",
    "repeated_regenerated": "share of the repeated images nearest to the picture generated from their caption",
    "repeated_images": "repeated images",
}
AT_LEAST = {
    "vae_held_out_psnr_db": 27,
    "unet_latents_per_second": 400,
    "nearest_of_prompted_collection": 0.9,
    "prompted_caption_in_top_5": 0.5,
}
AT_MOST = {"picture_seconds": 2, "app_peak_memory_gb": 2}


def measure(spec: ModelSpec, artwork: Path) -> Figures:
    """Every figure, measured on this machine."""
    model = load(spec)
    catalog = Catalog.load(artwork)
    train, held_out = catalog.of_split("train"), catalog.of_split("held_out")
    repeated = [image for image in train.images if image.repeats > 1]
    prompted = random.Random(SEED).sample(train.images, PROMPTS)
    latents = F.normalize(encode_all(model, train).flatten(1), dim=1)
    ranks = nearest_images(model, train, latents, prompted)
    repeated_ranks = nearest_images(model, train, latents, repeated)
    return Figures(
        parameters_unet=sum(p.numel() for p in model.unet.parameters()),
        threads=torch.get_num_threads(),
        vae_held_out_psnr_db=round(reconstruction_psnr(model, held_out), 2),
        unet_latents_per_second=round(forward_rate(model)),
        picture_seconds=round(picture_seconds(model), 2),
        app_peak_memory_gb=round(app_peak_memory(spec, artwork) / 2**30, 2),
        prompts=len(prompted),
        nearest_of_prompted_collection=_share(
            near[0].collection == image.collection for image, near in zip(prompted, ranks, strict=True)
        ),
        prompted_caption_in_top_5=_share(
            image.caption in {n.caption for n in near} for image, near in zip(prompted, ranks, strict=True)
        ),
        repeated_regenerated=_share(
            image.id == near[0].id for image, near in zip(repeated, repeated_ranks, strict=True)
        ),
        repeated_images=len(repeated),
    )


@torch.no_grad()
def encode_all(model: StableDiffusion, catalog: Catalog) -> torch.Tensor:
    """Latents `[n c h w]` of a catalog's pictures, in its order."""
    pictures = load_pictures(catalog).permute(0, 2, 3, 1).numpy()
    batches = [pictures[i : i + 256] for i in range(0, len(pictures), 256)]
    return torch.cat([model.encode_image([Image.fromarray(p) for p in batch]) for batch in batches])


def nearest_images(
    model: StableDiffusion, train: Catalog, latents: torch.Tensor, images: list[TrainingImage]
) -> list[list[TrainingImage]]:
    """For a picture generated from each image's caption, the five training images nearest by cosine of latents."""
    drawn = [model.generate(GenerationRequest(image.caption, seed=SEED + i)) for i, image in enumerate(images)]
    queries = F.normalize(model.encode_image(drawn).flatten(1), dim=1)
    return [[train.images[i] for i in row] for row in (queries @ latents.T).topk(5).indices.tolist()]


@torch.no_grad()
def reconstruction_psnr(model: StableDiffusion, catalog: Catalog) -> float:
    """Mean PSNR over pictures of the decoded posterior mean, in dB on 8-bit values."""
    pictures = load_pictures(catalog)
    latents = encode_all(model, catalog) / model.vae.config.scaling_factor
    decoded = torch.cat([model.vae.decode(z).sample for z in latents.split(64)])
    decoded = ((decoded.clamp(-1, 1) + 1) * 127.5).round()
    mse = (decoded - pictures.float()).square().mean(dim=(1, 2, 3)).clamp(min=1e-3)
    return float((10 * torch.log10(255**2 / mse)).mean())


@torch.inference_mode()
def forward_rate(model: StableDiffusion, repeats: int = 15) -> float:
    """Latents per second through the UNet at batch 64: the median of `repeats` timed forwards."""
    config = model.unet.config
    x = torch.randn(FORWARD_BATCH, config.in_channels, config.sample_size, config.sample_size)
    t = torch.randint(0, 1000, (FORWARD_BATCH,))
    context = model.text_encoder(model.encode_prompt([""] * FORWARD_BATCH))[0]
    seconds = [_timed(lambda: model.unet(x, t, context).sample) for _ in range(repeats + 3)][3:]
    return FORWARD_BATCH / sorted(seconds)[len(seconds) // 2]


def picture_seconds(model: StableDiffusion) -> float:
    """Median seconds to generate a picture, of 5, with 25 steps and guidance."""
    request = GenerationRequest("red apple, OpenMoji style", seed=7)
    return sorted(_timed(lambda: model.generate(request)) for _ in range(5))[2]


def app_peak_memory(spec: ModelSpec, artwork: Path) -> int:
    """Peak resident memory in bytes of a process that builds the app, generates a picture and attributes it."""
    done = subprocess.run(
        [sys.executable, "-c", _APP, spec.checkpoint, str(artwork)], check=True, capture_output=True, text=True
    )
    return int(done.stdout.split()[-1])


_APP = """
import resource, sys, tempfile
from concurrent.futures import Future
from pathlib import Path
from forwardinf.attribution.attributor import Attributor
from forwardinf.models.generation import GenerationRequest
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.examples.catalog import Catalog
from forwardinf.jobs.queue import open_queue
from forwardinf.models.registry import load_model
from forwardinf.records.store import FolderStore
from forwardinf.types import ModelSpec
from forwardinf.web.build import build
from forwardinf.web.served import Served
from forwardinf.web.worker import Worker
model, artwork = load_model(ModelSpec(sys.argv[1], fit="pad")), Catalog.load(Path(sys.argv[2]))
few = Catalog(artwork.folder, artwork.of_split("train").images[:32])
with tempfile.TemporaryDirectory() as folder:
    index = build_index(model, few, Path(folder) / "index", BuildPlan(fisher_images=4))
    loading = Future()
    loading.set_result(Attributor(model, index))
    results, runs = FolderStore(Path(folder) / "results"), open_queue(Path(folder) / "runs", Path(folder))
    served = Served(index, Path(sys.argv[1]), loading, results, Worker(), Path(folder), runs)
    app = build(served)
    served.ask(lambda it: it.attribute(model.generate(GenerationRequest("red apple, OpenMoji style"))))
status = Path("/proc/self/status")
if status.is_file():  # the peak of this program; getrusage counts that of the process it was forked from too
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    print(int(peak.split()[1]) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def as_table(figures: Figures) -> str:
    """The figures as a Markdown table, each beside its target, if it has one, and whether that is met."""
    rows = [f"| {LABELS[name]} | {value:,} | {_target(name, value)} |" for name, value in figures.items()]  # type: ignore[arg-type]
    return "\n".join(["| figure | measured | target |", "|---|---|---|", *rows])


def _target(name: str, value: float) -> str:
    if name in AT_LEAST:
        return f"≥ {AT_LEAST[name]:g}: {'met' if value >= AT_LEAST[name] else '**not met**'}"
    return f"≤ {AT_MOST[name]:g}: {'met' if value <= AT_MOST[name] else '**not met**'}" if name in AT_MOST else ""


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _share(hits: Iterable[bool]) -> float:
    outcomes = list(hits)
    return round(sum(outcomes) / len(outcomes), 3)
