"""What a GPU makes of indexing and attribution at true size, with random weights and without downloads.

make bench-gpu
python benchmarks/gpu.py --small --device cpu     # a hundredth of the size, anywhere

A section that fails, or that the eight minutes do not suffice for, says so in the report and does not stop the others.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from networks import stable_diffusion, stable_diffusion_xl
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from forwardinf.attribution.attributor import Attributor
from forwardinf.config import load_settings
from forwardinf.draws import DrawPlan
from forwardinf.examples.metadata import training_images
from forwardinf.gradients.per_example import gradient, mean_gradient
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.store import Index
from forwardinf.methods.dtrak import DTrak
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models.unet_latents import LatentDiffusion
from forwardinf.sweep.executors.threads import measured_by_batch
from forwardinf.sweep.losses import losses
from forwardinf.sweep.tasks import GPU_POSITIONS
from forwardinf.types import LatentBatch

SECONDS, DRAWS = 480, 4
# Of AttributeByUnlearning's published inference: losses of an image and of its mirror image at 20 timesteps each, after
# a step over 625 batches of 80 draws of the query; all in float32, by one copy of the model.
ABU_TIMESTEPS, ABU_MIRRORED, ABU_QUERY_DRAWS = 20, 2, 625 * 80
DTRAK_TIMESTEPS = 10  # gradients of an image, of which D-TRAK takes the mean


@dataclass
class Bench:
    device: str
    small: bool
    start: float = field(default_factory=time.monotonic)
    sections: dict[str, dict[str, object]] = field(default_factory=dict)

    def section(self, name: str, measure: Callable[[], dict[str, object]]) -> None:
        if time.monotonic() - self.start > SECONDS * 0.85:
            self.sections[name] = {"left out": f"after {SECONDS * 0.85:.0f} seconds"}
            return
        began = time.monotonic()
        try:
            found = measure()
        except Exception as error:  # the other sections are still worth having
            found = {"failed": f"{type(error).__name__}: {error}".replace("|", "/")}
        self.sections[name] = {**found, "seconds": round(time.monotonic() - began, 1)}
        if self.device != "cpu":
            torch.cuda.empty_cache()
        print(f"{name}: {self.sections[name]}", flush=True)

    def seconds(self, work: Callable[[], object], repeats: int = 3) -> float:
        """The least of a few runs after one to warm up; of a single one in small."""
        taken = []
        for _ in range(2 if self.small else 1 + repeats):
            self._finish()
            began = time.perf_counter()
            work()
            self._finish()
            taken.append(time.perf_counter() - began)
        return min(taken[1:])

    def peak_gib(self, work: Callable[[], object]) -> float:
        """The most memory that `work` holds on the device; on a CPU that of the process so far."""
        if self.device == "cpu":
            work()
            return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
        torch.cuda.reset_peak_memory_stats()
        work()
        return round(torch.cuda.max_memory_allocated() / 2**30, 2)

    def _finish(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()

    def as_markdown(self) -> str:
        lines = [f"# Attribution on {self.card}", ""]
        for name, found in self.sections.items():
            lines += [f"## {name}", "", "| figure | value |", "|---|---|"]
            lines += [f"| {key} | {value} |" for key, value in found.items()] + [""]
        return "\n".join(lines)

    @property
    def card(self) -> str:
        return "the CPU" if self.device == "cpu" else torch.cuda.get_device_name(self.device)


def card(bench: Bench) -> dict[str, object]:
    """The card, and the rate of a large matrix product on it."""
    side = 256 if bench.small else 8192
    found: dict[str, object] = {"card": bench.card, "torch": torch.__version__}
    for dtype in (torch.float16, torch.float32):
        a, b = (torch.randn(side, side, device=bench.device, dtype=dtype) for _ in range(2))
        rate = 2 * side**3 / bench.seconds(lambda a=a, b=b: a @ b, 10)
        found[f"matrix product, {str(dtype).removeprefix('torch.')}, TFLOP/s"] = round(rate / 1e12, 3)
    if bench.device != "cpu":
        found["memory, GiB"] = round(torch.cuda.get_device_properties(bench.device).total_memory / 2**30, 1)
    return found


def latents_of(model: LatentDiffusion, count: int) -> LatentBatch:
    side = model.unet.config.sample_size
    ids = tuple(f"example-{i}" for i in range(count))
    prompts = [f"a photograph of a red apple {i}" for i in range(count)]
    return LatentBatch(ids, torch.randn(count, 4, side, side).half(), model.encode_prompt(prompts))


def forwards(bench: Bench, model: LatentDiffusion, dtype: str) -> dict[str, object]:
    """Bare forwards, as a share of the matrix product's rate, and a sweep beside them."""
    shape = (4, *(model.unet.config.sample_size,) * 2)
    at_once = max(DRAWS, 8 if bench.small else GPU_POSITIONS // shape[1] ** 2)
    batch, plan = latents_of(model, 2 * at_once // DRAWS), DrawPlan(0, DRAWS, shared=True)
    read = [part[:1].expand(at_once, *part.shape[1:]) for part in model._captions(batch.conditioning)]
    x = torch.randn(at_once, *shape, device=bench.device, dtype=model._dtype)
    t = torch.randint(1000, (at_once,), device=bench.device)

    def bare() -> None:
        with torch.inference_mode():
            model._predicted(x, t, *read)

    def sweep() -> None:
        def measure(part: LatentBatch) -> torch.Tensor:
            return losses(model, part, plan.draws(part.example_ids, shape, bench.device))

        list(measured_by_batch(model, [batch], DRAWS, measure, at_once))

    with FlopCounterMode(display=False) as counter:
        bare()
    one, whole = bench.seconds(bare), bench.seconds(sweep)
    peak = float(bench.sections["Card"].get(f"matrix product, {dtype}, TFLOP/s", 0)) * 1e12
    per_forward = counter.get_total_flops() / at_once
    return {
        "latents at once": at_once,
        "forwards/s": round(at_once / one, 2),
        "GFLOP a forward": round(per_forward / 1e9, 2),
        "share of the matrix product": round(per_forward * at_once / one / peak, 3) if peak else None,
        "sweep, forwards/s": round(2 * at_once / whole, 2),
        "sweep / bare forward": round(2 * one / whole, 3),
    }


def rivals(bench: Bench, small: bool) -> dict[str, object]:
    """Seconds for each image by us in float16, and by the others' loops in float32, on the same images."""
    count = 2 if small else 16
    model = stable_diffusion(bench.device, "float16" if bench.device != "cpu" else "float32", small)
    plan, batch = DrawPlan(0, DRAWS, shared=True), latents_of(model, count)
    shape = batch.latents.shape[1:]

    def ours() -> None:
        def measure(part: LatentBatch) -> torch.Tensor:
            return losses(model, part, plan.draws(part.example_ids, shape, bench.device))

        list(measured_by_batch(model, [batch], DRAWS, measure))

    def query() -> None:
        mean_gradient(model, model.loss, batch.rows(0, 1), plan.draws(["query"], shape, bench.device))

    swept, step = bench.seconds(ours), bench.seconds(query)
    whole = stable_diffusion(bench.device, "float32", small)
    timesteps = torch.arange(ABU_TIMESTEPS, device=bench.device) * 1000 // ABU_TIMESTEPS

    def abu() -> None:
        alphas = whole._noise.alphas[timesteps].view(-1, 1, 1, 1)
        for i in range(count):
            (read,) = (part.repeat(ABU_TIMESTEPS, 1, 1) for part in whole._captions(batch.conditioning[i : i + 1]))
            latents = batch.latents[i].to(bench.device).float()
            for x_0 in (latents, latents.flip(-1)):
                noise = torch.randn(ABU_TIMESTEPS, *shape, device=bench.device)
                with torch.no_grad():
                    told = whole.unet(alphas.sqrt() * x_0 + (1 - alphas).sqrt() * noise, timesteps, read).sample
                    float((told - noise).square().mean())

    def dtrak() -> None:
        draws = DrawPlan(0, DTRAK_TIMESTEPS).draws(batch.example_ids[:1], shape)
        gradient(whole, DTrak().objective(whole), batch.rows(0, 1), draws)

    unlearned, projected = bench.seconds(abu, 1), bench.seconds(dtrak, 1)
    return {
        f"Forward-INF, {DRAWS} draws, seconds an image": round(swept / count, 5),
        "Forward-INF, one gradient of the query, seconds": round(step, 4),
        f"AbU, {ABU_MIRRORED} × {ABU_TIMESTEPS} timesteps, seconds an image": round(unlearned / count, 5),
        "AbU, step on the query (estimated from D-TRAK's backwards), seconds": round(
            projected / DTRAK_TIMESTEPS * ABU_QUERY_DRAWS, 1
        ),
        f"D-TRAK, {DTRAK_TIMESTEPS} timesteps, seconds an image": round(projected, 5),
        "AbU / Forward-INF, an image": round(unlearned / swept, 1),
        "D-TRAK / Forward-INF, an image": round(projected * count / swept, 1),
    }


def memory(bench: Bench, model: LatentDiffusion, budget: float = 1e-3) -> dict[str, object]:
    """Peak memory of indexing a few pictures, and of a query on them.

    Random weights hardly read prompts, so that the query's loss is to move by only a thousandth.
    """
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "metadata.jsonl").open("w") as lines:
            for i in range(4):
                patch = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                patch.resize((model.picture_size,) * 2).save(folder / f"{i}.png")
                lines.write(json.dumps({"file_name": f"{i}.png", "text": f"a photograph of a red apple {i}"}) + "\n")
        source, built = training_images(folder), list[Index]()
        plan = BuildPlan(draws=DRAWS, fisher_images=2, fisher_draws=2, embedder="vae")
        indexing = bench.peak_gib(lambda: built.append(build_index(model, source, folder / "index", plan)))
        attributor = Attributor(model, built[0])
        method = ForwardInf(loss_budget=budget, size_budget=budget)
        query = attributor.query(source.picture(source.images[0]), "a photograph of a red apple")
        asked = bench.peak_gib(lambda: list(attributor.follow(query, method)))
    return {"indexing, GiB": indexing, "a query, GiB": asked, "dtype": model.spec.dtype, "pixels": model.picture_size}


def agreement(bench: Bench) -> dict[str, object]:
    """Scores of the shipped model on the device against those on the CPU."""
    scores = []
    for device in ("cpu", bench.device):
        whole = Attributor.load(spec=load_settings(device=device).model_spec(index_dtype="float32"))
        ids = [image.id for image in whole.index.catalog.images][:: 1000 if bench.small else 20]
        attributor = Attributor(whole.model, whole.index.part(ids))
        image = whole.index.thumbnails.images[0]
        picture = whole.index.thumbnails.picture(image)
        scores.append(attributor.attribute(picture, image.caption).scores)
    cpu, there = scores
    return {
        "images": len(cpu),
        "correlation": round(float(torch.corrcoef(torch.stack([cpu, there]))[0, 1]), 7),
        "largest difference / largest score": float((cpu - there).abs().max() / cpu.abs().max()),
    }


def weights(
    bench: Bench, load: Callable[[str, str, bool], LatentDiffusion], dtype: str, into: list[LatentDiffusion]
) -> dict[str, object]:
    into.append(load(bench.device, dtype, bench.small))
    return {"UNet, millions": round(sum(p.numel() for p in into[0].unet.parameters()) / 1e6, 2)}


def main(arguments: list[str] | None = None) -> Bench:
    parser = argparse.ArgumentParser(description="Speed and memory of attribution on a GPU.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a hundredth of the size")
    parser.add_argument("--out", type=Path, help="folder for gpu.md and gpu.json")
    given = parser.parse_args(arguments)
    bench = Bench(given.device, given.small)
    half = "float32" if given.device == "cpu" else "float16"
    bench.section("Card", lambda: card(bench))
    for name, load in (("SD 1.5", stable_diffusion), ("SDXL", stable_diffusion_xl)):
        model: list[LatentDiffusion] = []
        bench.section(f"{name}, weights", lambda load=load, m=model: weights(bench, load, half, m))
        if model:
            bench.section(f"{name}, forwards in {half}", lambda m=model: forwards(bench, m[0], half))
            bench.section(f"{name}, peak memory", lambda m=model: memory(bench, m[0]))
        model.clear()
    bench.section("Time beside AbU and D-TRAK, SD 1.5", lambda: rivals(bench, given.small))
    bench.section("Scores of the shipped model", lambda: agreement(bench))
    print(bench.as_markdown())
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "gpu.md").write_text(bench.as_markdown(), encoding="utf-8")
        (given.out / "gpu.json").write_text(json.dumps(bench.sections, indent=1) + "\n", encoding="utf-8")
    return bench


if __name__ == "__main__":
    main()
