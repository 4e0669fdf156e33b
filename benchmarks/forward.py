"""How fast the shipped UNet goes forward, and what a sweep adds to it; every ratio is measured side by side.

make bench
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from forwardinf.config import load_settings
from forwardinf.draws import DrawPlan
from forwardinf.models.sd import StableDiffusion, load
from forwardinf.sweep.executors.threads import measured_by_batch
from forwardinf.sweep.losses import losses
from forwardinf.types import LatentBatch

BATCH, DRAWS, BATCHES, ROUNDS, WARM_UP = 64, 4, 12, 5, 1
GOAL = 0.90  # of the bare forward's throughput


def main() -> None:
    spec = load_settings().model_spec()
    model = load(spec)
    shape = (model.unet.config.in_channels, *(model.unet.config.sample_size,) * 2)
    plan = DrawPlan(0, DRAWS, shared=True)  # as an index has it
    ids = tuple(f"example-{i}" for i in range(BATCH * BATCHES))
    shard = LatentBatch(ids, torch.randn(len(ids), *shape), model.encode_prompt(["red apple"] * len(ids)))
    threads = torch.get_num_threads()
    bare, swept = f"bare UNet forward, {spec.dtype}", "sweep, with draws and losses"
    forward = bare_forward(model, shape)

    def measure(batch: LatentBatch) -> torch.Tensor:
        return losses(model, batch, plan.draws(batch.example_ids, shape))

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        work: dict[str, Callable[[], object]] = {
            bare: lambda: list(pool.map(forward, range(BATCHES))),
            swept: lambda: list(measured_by_batch(model, [shard], DRAWS, measure, BATCH * DRAWS)),
            "threads share each batch": lambda: list(map(forward, range(BATCHES))),
        }
        seconds = side_by_side(work, threads)
    ratios = {
        name: statistics.median(b / own for b, own in zip(seconds[bare], taken, strict=True))
        for name, taken in seconds.items()
    }
    latents = BATCH * DRAWS * BATCHES
    print(
        f"{BATCHES} batches of {BATCH * DRAWS} latents, a thread for each of {threads} at once unless said otherwise,"
    )
    print(f"median of {ROUNDS} interleaved rounds\n")
    print(f"{'':28} {'latents/s':>10} {'ratio to bare':>14}")
    for name, taken in seconds.items():
        print(f"{name:28} {latents / statistics.median(taken):10.0f} {ratios[name]:14.3f}")
    verdict = "reached" if ratios[swept] >= GOAL else "not reached"
    print(f"\nsweep throughput / bare UNet forward throughput: {ratios[swept]:.3f} (goal ≥ {GOAL:.2f}: {verdict})")


def bare_forward(model: StableDiffusion, shape: tuple[int, ...]) -> Callable[[int], object]:
    n = BATCH * DRAWS
    x = torch.randn(n, *shape, dtype=model.unet.dtype)
    t = torch.randint(0, 1000, (n,))
    context = model.text_encoder(model.encode_prompt(["red apple"] * n))[0]

    @torch.inference_mode()
    def forward(_: int) -> object:
        return model.unet(x, t, context).sample

    return forward


@torch.inference_mode()
def side_by_side(work: dict[str, Callable[[], object]], threads: int) -> dict[str, list[float]]:
    """Seconds of each in every round, taken in turns so that a noisy moment falls on all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(WARM_UP + ROUNDS):
        for name, call in work.items():
            torch.set_num_threads(threads)
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: taken[WARM_UP:] for name, taken in seconds.items()}


if __name__ == "__main__":
    main()
