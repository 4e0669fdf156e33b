"""How much more memory indexing 100,000 images takes than indexing 10,000: `make bench-indexing`.

A stub stands for the model, and pictures are of 16 × 16 pixels, so that what is left is what an index build itself
holds: the rows of the training set, and what of each image is kept in memory until the end. Each size is read and
indexed by a process of its own, whose peak is told.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from large import Stub
from PIL import Image

from forwardinf.examples.fit import Fit
from forwardinf.examples.metadata import read_training_folder
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.models.protocol import CaptionedPicture
from forwardinf.types import LatentBatch

GOAL = 0.10  # growth from the first size to the last
SIDE, PICTURES = 16, 64


class Encoder(Stub):
    """The stub, with latents of 8 × 8 made of the pixels, and features of these."""

    picture_size = SIDE
    fit = Fit("crop", SIDE, 4)

    def encode(self, examples: list[CaptionedPicture]) -> LatentBatch:  # type: ignore[override]
        pixels = torch.from_numpy(np.stack([np.asarray(self.fit.of(one.picture)) for one in examples]))
        latents = pixels.permute(0, 3, 1, 2)[:, [0, 1, 2, 0], ::2, ::2].float() / 127.5 - 1
        return LatentBatch(tuple(one.id for one in examples), latents, torch.zeros(len(examples), 77, dtype=torch.long))

    def features(self, latents: torch.Tensor) -> torch.Tensor:
        return latents.flatten(1)


def write_set(folder: Path, count: int) -> None:
    """So many pictures, of which there are few different ones, each with a caption and credits."""
    random = np.random.default_rng(0)
    for n in range(PICTURES):
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"{n}.part", "PNG")
    with (folder / "metadata.jsonl").open("w") as lines:
        for n in range(count):
            os.link(folder / f"{n % PICTURES}.part", folder / f"{n:06}.png")
            row = {
                "file_name": f"{n:06}.png",
                "text": f"patch {n} of a set, {n % 97} stripes",
                "creator": f"Ada {n % 50}",
            }
            lines.write(json.dumps(row | {"licence": "CC0-1.0"}) + "\n")


def indexed(folder: Path) -> dict[str, float]:
    """What reading and indexing a folder takes, in this process."""
    began = time.process_time()
    read = read_training_folder(folder, decode=True)
    build_index(Encoder(), read.catalog, folder.parent / "index", BuildPlan())  # type: ignore[arg-type]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak, MiB": peak, "CPU s": time.process_time() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder:
        print(json.dumps(indexed(given.folder)))
        return
    peaks = []
    for count in given.images:
        with tempfile.TemporaryDirectory() as folder:
            pictures = Path(folder) / "set"
            pictures.mkdir()
            write_set(pictures, count)
            done = subprocess.run(
                [sys.executable, __file__, "--in", str(pictures)], check=True, capture_output=True, text=True
            )
        figures = json.loads(done.stdout.splitlines()[-1])
        peaks.append(figures["peak, MiB"])
        print(f"{count:>8,} images: {', '.join(f'{name} {value:,.0f}' for name, value in figures.items())}", flush=True)
    growth = peaks[-1] / peaks[0] - 1
    print(f"growth {growth:.1%}, goal at most {GOAL:.0%}: {'held' if growth <= GOAL else 'not held'}")


if __name__ == "__main__":
    main()
