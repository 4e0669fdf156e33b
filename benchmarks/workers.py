"""How fast Ray workers, one to a core, sweep the shipped index beside threads of this process; measured in turns.

make bench-ray
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import replace

import torch

from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.executor import load_executor
from forwardinf.config import load_settings
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.sweep.rounds import forwards

IMAGES, ROUNDS = 1024, 3
GOAL = 0.85  # of the throughput of threads


def main() -> None:
    cores, method = len(os.sched_getaffinity(0)), ForwardInf()
    attributor = Attributor.load()
    pictures = attributor.index.thumbnails
    images = pictures.images[:IMAGES]
    query = attributor.query(pictures.picture(images[0]), images[0].caption)
    state = attributor.prepare(query, method)
    threads = replace(attributor, index=attributor.index.part(image.id for image in images))
    workers = replace(threads, executor=load_executor(load_settings(executor="ray", ray_workers=cores)))
    seconds: dict[str, list[float]] = {"threads": [], "Ray workers": []}
    for turn in range(1 + ROUNDS):
        for name, swept in (("threads", threads), ("Ray workers", workers)):
            torch.set_num_threads(cores)
            start = time.perf_counter()
            list(swept.sweep(state, method))
            if turn:  # in the first, the workers load the model
                seconds[name].append(time.perf_counter() - start)
    latents = forwards(state.rounds, len(images))
    print(f"{latents:,} latents a sweep, {cores} of each, median of {ROUNDS} rounds in turns\n")
    for name, taken in seconds.items():
        print(f"{name:12} {latents / statistics.median(taken):8.0f} latents/s")
    ratio = statistics.median(a / b for a, b in zip(seconds["threads"], seconds["Ray workers"], strict=True))
    verdict = "reached" if ratio >= GOAL else "not reached"
    print(f"\nthroughput of Ray workers / threads: {ratio:.3f} (goal ≥ {GOAL:.2f}: {verdict})")


if __name__ == "__main__":
    main()
