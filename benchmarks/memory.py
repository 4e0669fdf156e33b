"""How much memory a query of a LoRA takes beside its model, and how much time beside the model's forwards.

make bench-memory                                  # SDXL, block by block as the real one, an eighth as wide
python benchmarks/memory.py --full --images 50     # Stable Diffusion 1.5 of true size on two cores: hours

Weights are random, in float32 on the CPU, and nothing is downloaded. Of SDXL every byte that torch holds beside the
model is counted, activations included, with latents taken one by one as a CPU takes the real one's. Of Stable Diffusion
1.5 it is the peak of the whole process, from loading the model to the answer, and the share of the sweep's time during
which no forward of the UNet ran.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from networks import SMALL_SDXL, stable_diffusion, stable_diffusion_xl
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from forwardinf.attribution.attributor import Attributor
from forwardinf.examples.metadata import training_images
from forwardinf.gradients import per_example
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.store import Index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models import denoising
from forwardinf.models.registry import load_model
from forwardinf.models.unet_latents import LatentDiffusion
from forwardinf.training.adapt import MATRICES, Factors, LoraRecipe, save_as_kohya
from forwardinf.types import Adapter, ModelSpec

CORES, PIXELS = 2, 8  # of a picture to a latent position
METHOD = ForwardInf(loss_budget=0.001, size_budget=0.001)  # a LoRA of random weights moves a random loss by little
EIGHTH_OF_SDXL = {
    **SMALL_SDXL,
    "block_out_channels": (40, 80, 160),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "norm_num_groups": 8,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="Stable Diffusion 1.5 of true size instead")
    parser.add_argument("--images", type=int, default=2, help="training images")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--side", type=int, help="of latents; 8 pixels each (SDXL: 16, Stable Diffusion 1.5: 64)")
    parser.add_argument("--rank", type=int, help="of the LoRA (SDXL: 1, an eighth of 8; Stable Diffusion 1.5: 8)")
    asked = parser.parse_args()
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as work:
        measure = true_size if asked.full else eighth_of_sdxl
        usual = (64, 8) if asked.full else (16, 1)
        measure(asked.images, asked.draws, asked.side or usual[0], asked.rank or usual[1], Path(work))


def eighth_of_sdxl(images: int, draws: int, side: int, rank: int, work: Path) -> None:
    pipeline = stable_diffusion_xl("cpu", "float32", small=True).pipeline
    pipeline.register_modules(unet=UNet2DConditionModel(**EIGHTH_OF_SDXL | {"sample_size": side}))
    pipeline.save_pretrained(work / "model")
    model = with_lora(work, rank)
    attributor = Attributor(model, indexed(model, images, draws, work))
    query = attributor.query(picture(images, side), "a red apple")
    per_example.LARGE = denoising.LARGE = side**2  # as the real one's latents are taken, one by one
    moved = sum(weights.nbytes for weights in model.tunable_parameters().values())
    networks = [part for part in model.pipeline.components.values() if isinstance(part, torch.nn.Module)]
    whole = sum(weights.nbytes for network in networks for weights in network.parameters()) - moved
    peak = peak_of(lambda: list(attributor.follow(query, METHOD)))
    print(f"the model: {whole / 2**20:.1f} MiB; its LoRA: {moved / 2**20:.2f} MiB")
    print(f"a query beside it, step and sweep at {side} × {side}: {peak / 2**20:.1f} MiB, {peak / whole:.1%}")


def true_size(images: int, draws: int, side: int, rank: int, work: Path) -> None:
    child = multiprocessing.get_context("spawn").Process(target=save_true_size, args=(side, work / "model"))
    child.start()  # whose memory is not counted
    child.join()
    model = with_lora(work, rank)
    print(f"loaded: peak {peak_gib():.2f} GiB", flush=True)
    forwards = Forwards()
    forwards.watch(model)
    attributor = Attributor(model, indexed(model, images, draws, work))
    print(f"index built: peak {peak_gib():.2f} GiB", flush=True)
    query = attributor.query(picture(images, side), "a red apple")
    began = time.perf_counter()
    state = attributor.prepare(query, METHOD)
    stepped = time.perf_counter() - began
    began, before = time.perf_counter(), forwards.seconds
    list(attributor.sweep(state, METHOD))
    swept, within = time.perf_counter() - began, forwards.seconds - before
    print(f"step on the query: {stepped:.0f} s; sweep over {images} images at {draws} draws: {swept:.0f} s, of which")
    print(f"beside forwards {1 - within / swept:.2%}; peak {peak_gib():.2f} GiB")


def save_true_size(side: int, folder: Path) -> None:
    pipeline = stable_diffusion("cpu", "float32", small=False).pipeline
    pipeline.unet.register_to_config(sample_size=side)
    pipeline.to(torch.float16).save_pretrained(folder)  # as most people have it


def with_lora(work: Path, rank: int) -> LatentDiffusion:
    """The model in `work`, with a random LoRA on all of its UNet's attention."""
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(work / "model", subfolder="unet"))
    factors: Factors = {}
    for path, layer in unet.named_modules():
        if path.endswith(tuple(MATRICES)) and hasattr(layer, "weight"):
            outputs, inputs = layer.weight.shape
            factors[path] = (torch.randn(rank, inputs) / inputs**0.5, torch.randn(outputs, rank) / 100)
    del unet
    file = save_as_kohya(factors, LoraRecipe(rank=rank, alpha=float(rank)), work / "style.safetensors")
    return load_model(ModelSpec(str(work / "model"), tunable="adapter", adapter=Adapter(str(file))))


def indexed(model: LatentDiffusion, images: int, draws: int, work: Path) -> Index:
    """An index of noise pictures, whose Fisher is of a single draw, as random weights need no better one."""
    folder = work / "pictures"
    folder.mkdir()
    for number in range(images):
        picture(number, model.picture_size // PIXELS).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(f"picture {number}")
    plan = BuildPlan(draws=draws, fisher_images=1, fisher_draws=1)
    return build_index(model, training_images(folder), work / "index", plan)


def picture(number: int, side: int) -> Image.Image:
    coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side * PIXELS, side * PIXELS))


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that tensors made in `work`, a single thread, hold at once."""
    held = Held()
    torch.set_num_threads(1)  # so that a sweep stays in this thread
    try:
        with held:
            work()
    finally:
        torch.set_num_threads(CORES)
    return held.peak


class Held(TorchDispatchMode):
    """Counts the bytes of every storage that an operation makes until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        before = {id(tensor.untyped_storage()) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and id(tensor.untyped_storage()) not in before:
                self._hold(tensor.untyped_storage())
        return made

    def _hold(self, storage: torch.UntypedStorage) -> None:
        if id(storage) not in self._seen:
            self._seen.add(id(storage))
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, id(storage), storage.nbytes())

    def _free(self, identity: int, size: int) -> None:
        self._seen.discard(identity)
        self.now -= size


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@dataclass
class Forwards:
    """Seconds during which at least one forward of a UNet ran."""

    seconds: float = 0.0
    running: int = 0
    since: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, model: LatentDiffusion) -> None:
        inner = model.unet.forward

        def forward(*given, **named):
            self._counted(1)
            try:
                return inner(*given, **named)
            finally:
                self._counted(-1)

        model.unet.forward = forward

    def _counted(self, change: int) -> None:
        with self.lock:
            now = time.perf_counter()
            if self.running:
                self.seconds += now - self.since
            self.running, self.since = self.running + change, now


if __name__ == "__main__":
    main()
