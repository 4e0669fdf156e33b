"""How fast the shipped UNet goes forward, and what our loss adds to it; every ratio is measured side by side.

make bench
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from forwardinf.config import load_settings
from forwardinf.draws import DrawPlan
from forwardinf.models.stable_diffusion import StableDiffusion, load
from forwardinf.types import LatentBatch

BATCH, DRAWS, ROUNDS = 8, 8, 12


def main() -> None:
    spec = load_settings().model_spec()
    model = load(spec)
    shape = (model.unet.config.in_channels, *(model.unet.config.sample_size,) * 2)
    ids = tuple(f"example-{i}" for i in range(BATCH))
    batch = LatentBatch(ids, torch.randn(BATCH, *shape), model.encode_prompt(["red apple"] * BATCH))
    plan = DrawPlan(0, DRAWS)
    draws = plan.draws(ids, shape)
    bf16 = StableDiffusion(load(spec).pipeline.to(torch.bfloat16), spec)
    work: dict[str, Callable[[], object]] = {
        "bare UNet forward, float32": bare_forward(model, shape),
        "bare UNet forward, bfloat16": bare_forward(bf16, shape),
        "loss, draws at hand": lambda: model.loss(batch, draws),
        "loss, draws made anew": lambda: model.loss(batch, plan.draws(ids, shape)),
    }
    seconds = side_by_side(work)
    reference = seconds["bare UNet forward, float32"]
    print(f"{BATCH * DRAWS} latents a call, {torch.get_num_threads()} threads, median of {ROUNDS} interleaved rounds\n")
    print(f"{'':28} {'latents/s':>10} {'ratio to bare':>14}")
    for name, median in seconds.items():
        print(f"{name:28} {BATCH * DRAWS / median:10.0f} {reference / median:14.2f}")


def bare_forward(model: StableDiffusion, shape: tuple[int, ...]) -> Callable[[], object]:
    n = BATCH * DRAWS
    x = torch.randn(n, *shape, dtype=model.unet.dtype)
    t = torch.randint(0, 1000, (n,))
    context = model.text_encoder(model.encode_prompt(["red apple"] * n))[0]
    return lambda: model.unet(x, t, context).sample


@torch.inference_mode()
def side_by_side(work: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, taken in turns so that a noisy moment falls on all of them."""
    timings: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS + 2):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            timings[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken[2:]) for name, taken in timings.items()}


if __name__ == "__main__":
    main()
