"""How an index of 100,000 images behaves beside its forwards: start, query, memory. `--large` adds 800,000.

make bench-large

A stub stands for the model: its forwards cost next to nothing, so that what is measured is the work beside them. The
indexes are made up (random latents, embeddings, sketches and null), in the files and the sizes that `index build` would
write, each in a temporary folder and opened by a process of its own. CPU time is told beside the time on the clock,
which other programs on the machine lengthen.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forwardinf.attribution.answer import answer_of
from forwardinf.attribution.attributor import DEFAULT_METHOD, Attributor
from forwardinf.attribution.shortlist import Effort
from forwardinf.examples.catalog import FILE_NAME as CATALOG
from forwardinf.examples.catalog import Catalog, TrainingImage
from forwardinf.files.atomic import write_bytes, write_json
from forwardinf.files.manifest import write_manifest
from forwardinf.index import null_file
from forwardinf.index.curvature_file import write_fisher
from forwardinf.index.info import INFO, SCHEMA, IndexInfo
from forwardinf.index.mean_file import write_mean
from forwardinf.index.neighbours import write_neighbours
from forwardinf.index.shards import Shard, write_shard
from forwardinf.index.sketch_file import SketchInfo, write_sketches
from forwardinf.index.store import Index
from forwardinf.index.thumbnails import name_of, write_pack
from forwardinf.methods.protocol import settings_of
from forwardinf.types import Draws, LatentBatch, ModelSpec, Query

SHARD, DRAWS, FEATURES, NULLS, WORDS = 1024, 4, 256, 29, 5000
GOALS = {"start, s": 5.0, "query beside forwards, s": 1.0, "memory / latents": 0.1, "exponent of query time": 0.3}


class Stub:
    """A model of 64 weights whose losses and sizes are cheap functions of the latents, and move with the weights."""

    fingerprint = "0" * 64
    picture_size, reads_prompts = 64, True

    def __init__(self) -> None:
        self.spec = ModelSpec("stub")
        self.weights = torch.ones(64, requires_grad=True)
        self.seconds = 0.0  # in forwards

    def tunable_parameters(self) -> dict[str, torch.Tensor]:
        return {"w": self.weights}

    def with_deltas(self, deltas: dict[str, torch.Tensor]) -> AbstractContextManager[None]:
        @contextmanager
        def moved() -> Any:
            before = self.weights.detach().clone()
            with torch.no_grad():
                self.weights += deltas.get("w", torch.zeros(64))
            try:
                yield
            finally:
                with torch.no_grad():
                    self.weights.copy_(before)

        return moved()

    def loss(self, batch: LatentBatch, draws: Draws) -> torch.Tensor:
        return self.loss_and_size(batch, draws)[0]

    def loss_and_size(self, batch: LatentBatch, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        began = time.process_time()
        x = batch.latents.flatten(1)[:, :64].float()
        value = (x * self.weights).square().mean(dim=1)[:, None] * (1 + draws.u) + 0.1
        self.seconds += time.process_time() - began
        return value, 2 * value

    def encode(self, examples: object) -> LatentBatch:
        raise NotImplementedError

    def prediction(self, batch: LatentBatch, draws: Draws) -> torch.Tensor:
        raise NotImplementedError


class Looks:
    """An embedder that gives a picture a random embedding."""

    name, fingerprint = "stub", "1" * 64

    def embed(self, pictures: list) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.ones(len(pictures), FEATURES), dim=1)


@dataclass(frozen=True)
class Size:
    """Of an index that is made up."""

    images: int
    side: int  # of the latents

    @property
    def latents(self) -> int:
        """Bytes of all latents."""
        return self.images * 4 * self.side**2 * 2


def made(folder: Path, size: Size) -> None:
    """Write an index of so many images; a tenth of a percent of them is held out."""
    random = np.random.default_rng(0)
    info = IndexInfo(SCHEMA, "stub", Stub.fingerprint, "", "all", 0, DRAWS, 1, 1, Looks.name, Looks.fingerprint,
                     size.images, SHARD, "0")  # fmt: skip
    words = [f"word{n}" for n in range(WORDS)]
    images = tuple(_image(n, words, random) for n in range(size.images))
    write_bytes(folder / CATALOG, Catalog(folder, images).to_bytes())
    write_bytes(folder / INFO, info.to_bytes())
    write_fisher(folder, {"w": torch.ones(64)})
    write_mean(folder, torch.zeros(4, size.side, size.side))
    stub, latents = Stub(), torch.randn(SHARD, 4, size.side, size.side).half()
    for number in range(info.shard_count):
        ids = tuple(image.id for image in images[number * SHARD : (number + 1) * SHARD])
        batch = LatentBatch(ids, latents[: len(ids)].roll(number, dims=0), torch.zeros(len(ids), 77, dtype=torch.long))
        with torch.no_grad():
            losses, sizes = stub.loss_and_size(batch, info.plan.draws(ids, batch.latents.shape[1:]))
        write_shard(folder, number, Shard(batch, losses, sizes))
        write_pack(folder, number, [example_id.encode() * 100 for example_id in ids])
    write_neighbours(folder, torch.nn.functional.normalize(torch.randn(size.images, FEATURES), dim=1))
    write_sketches(folder, SketchInfo((DRAWS - 1,)), _sketches(size.images))
    found = random.random((NULLS, size.images, DRAWS + 1), dtype=np.float32)
    np.savez(folder / null_file.SCORES, found=found)
    kept = {"method": settings_of(DEFAULT_METHOD), "tunable": "all"}
    queries = [image.id for image in images[:NULLS]]
    fields = {"schema": null_file.SCHEMA, "settings": kept, "queries": queries, "unprompted": [1.0] * NULLS}
    write_json(folder / null_file.SETTINGS, fields)
    write_manifest(folder)


def _image(number: int, words: list[str], random: np.random.Generator) -> TrainingImage:
    fields = dict.fromkeys(TrainingImage.__dataclass_fields__, "")
    caption = " ".join(words[int(WORDS * share**3)] for share in random.random(8))
    split = "held_out" if number % 1000 == 0 else "train"
    own = {"id": f"image-{number:07}", "file_name": name_of(number), "caption": caption, "sha256": f"{number:064}"}
    return TrainingImage(**{**fields, **own, "split": split, "width": 64, "height": 64, "repeats": 1})  # type: ignore[arg-type]


def _sketches(count: int) -> Any:
    part = torch.randn(SHARD, SketchInfo.dimensions)
    for start in range(0, count, SHARD):
        yield part[: min(SHARD, count - start)].roll(start // SHARD, dims=1)


def measured(folder: Path, size: Size) -> dict[str, float]:
    """What opening the index and asking it takes, in this process."""
    before, start = _resident(), _Clock()
    index = Index.open(folder)
    stub = Stub()
    attributor = Attributor(stub, index, Looks())  # type: ignore[arg-type]
    assert attributor.null(DEFAULT_METHOD) is not None
    opened = start.seconds()
    figures = {"start, s": opened[0], "start, CPU s": opened[1]}
    for name in ("first query", "query"):
        stub.seconds, clock = 0.0, _Clock()
        _ask(attributor, size)
        wall, cpu = clock.seconds()
        figures |= {f"{name}, s": wall, f"{name} beside forwards, CPU s": cpu - stub.seconds}
    figures["memory growth, MB"] = (_resident() - before) / 1e6
    figures["memory / latents"] = (_resident() - before) / size.latents
    return figures


def _ask(attributor: Attributor, size: Size) -> None:
    """A staged answer, as the app gives it."""
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, size.side, size.side, generator=generator)
    picture = Image.new("RGB", (64, 64))
    query = Query("query", "2" * 64, "word1 word40 word900", latents, torch.zeros(1, 77, dtype=torch.long), picture)
    *_, last = attributor.follow(query, DEFAULT_METHOD, Effort())
    assert last.stages
    answer_of(attributor, query, DEFAULT_METHOD, last)


class _Clock:
    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        """By the clock, and of CPU."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def _resident() -> int:
    """Bytes of memory that are the process's, without files that are only mapped."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def apart(folder: Path, size: Size) -> dict[str, float]:
    """`measured`, in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--measure",
        str(folder),
        "--images",
        str(size.images),
        "--side",
        str(size.side),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _told(size: Size, figures: dict[str, float]) -> None:
    print(f"{size.images:,} images, latents of {size.side} × {size.side} ({size.latents / 1e6:,.0f} MB)")
    for name, value in figures.items():
        print(f"  {name:38} {value:10.3f}{_against(name, value)}")


def _against(name: str, value: float) -> str:
    goal = GOALS.get(name.replace(" beside forwards, CPU s", " beside forwards, s").replace("start, CPU s", "start, s"))
    return "" if goal is None else f"   goal {goal:g}: {'met' if value <= goal else 'missed'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--large", action="store_true", help="an index of 800,000 images as well; takes 20 GB of disk")
    parser.add_argument("--side", type=int, default=64, help="of latents; 64 as those of Stable Diffusion 1.5")
    parser.add_argument("--work", type=Path, help="folder for the indexes, which are removed in the end")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(given.measure, Size(given.images, given.side))))
        return
    counts = sorted({max(1000, given.images // 12), given.images, *([8 * given.images] if given.large else [])})
    times = {}
    for count in counts:
        side = given.side if count <= given.images else given.side // 2
        with tempfile.TemporaryDirectory(dir=given.work) as folder:
            size = Size(count, side)
            made(Path(folder), size)
            figures = apart(Path(folder), size)
        _told(size, figures)
        times[count] = figures["query beside forwards, CPU s"]
    exponent = math.log(times[counts[-1]] / times[counts[0]]) / math.log(counts[-1] / counts[0])
    name = "exponent of query time"
    print(f"{name}, {counts[0]:,} to {counts[-1]:,} images: {exponent:.2f}{_against(name, exponent)}")


if __name__ == "__main__":
    main()
