"""How fast the shipped UNet goes forward, and what a sweep adds to it; every ratio is measured side by side.

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
from forwardinf.sweep import part_of, sweep
from forwardinf.types import LatentBatch

BATCH, DRAWS, ROUNDS, WARM_UP = 8, 8, 24, 3
GOAL = 0.90  # of the bare forward's throughput


def main() -> None:
    spec = load_settings().model_spec()
    model = load(spec)
    shape = (model.unet.config.in_channels, *(model.unet.config.sample_size,) * 2)
    plan = DrawPlan(0, DRAWS)
    shard = LatentBatch(
        tuple(f"example-{i}" for i in range(BATCH * (ROUNDS + WARM_UP))),
        torch.randn(BATCH * (ROUNDS + WARM_UP), *shape),
        model.encode_prompt(["red apple"] * BATCH * (ROUNDS + WARM_UP)),
    )
    batch = part_of(shard, 0, BATCH)
    draws = plan.draws(batch.example_ids, shape)
    sweeping = sweep(model, [shard], plan, len(shard.example_ids), BATCH * DRAWS)
    bf16 = StableDiffusion(load(spec).pipeline.to(torch.bfloat16), spec)
    bare, swept = f"bare UNet forward, {spec.dtype}", "sweep, with draws and losses"
    work: dict[str, Callable[[], object]] = {
        bare: bare_forward(model, shape),
        swept: lambda: next(sweeping),
        "loss, draws at hand": lambda: model.loss(batch, draws),
        "bare UNet forward, bfloat16": bare_forward(bf16, shape),
    }
    seconds = side_by_side(work)
    ratios = {
        name: statistics.median(b / own for b, own in zip(seconds[bare], taken, strict=True))
        for name, taken in seconds.items()
    }
    print(f"{BATCH * DRAWS} latents a call, {torch.get_num_threads()} threads, median of {ROUNDS} interleaved rounds\n")
    print(f"{'':28} {'latents/s':>10} {'ratio to bare':>14}")
    for name, taken in seconds.items():
        print(f"{name:28} {BATCH * DRAWS / statistics.median(taken):10.0f} {ratios[name]:14.3f}")
    verdict = "reached" if ratios[swept] >= GOAL else "not reached"
    print(f"\nsweep throughput / bare UNet forward throughput: {ratios[swept]:.3f} (goal ≥ {GOAL:.2f}: {verdict})")


def bare_forward(model: StableDiffusion, shape: tuple[int, ...]) -> Callable[[], object]:
    n = BATCH * DRAWS
    x = torch.randn(n, *shape, dtype=model.unet.dtype)
    t = torch.randint(0, 1000, (n,))
    context = model.text_encoder(model.encode_prompt(["red apple"] * n))[0]
    return lambda: model.unet(x, t, context).sample


@torch.inference_mode()
def side_by_side(work: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each in every round, taken in turns so that a noisy moment falls on all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(WARM_UP + ROUNDS):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: taken[WARM_UP:] for name, taken in seconds.items()}


if __name__ == "__main__":
    main()
