"""Twenty builds killed at random (kill -9) and run again: is each the index of a build that nobody killed?

make bench-kills

A build here has all its stages: images, Fisher, sketches, null pictures. Work is counted in latents that the UNet saw,
in a file that outlives the process; what is counted beyond the build that nobody killed was done twice.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from forwardinf.attribution.build_whole import WholePlan, build_whole
from forwardinf.config import ASSETS
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.metadata import TrainingFolder
from forwardinf.index.build import BuildPlan
from forwardinf.index.info import ABOUT
from forwardinf.index.store import Index
from forwardinf.models.registry import load_model
from forwardinf.models.unet_latents import LatentDiffusion
from forwardinf.types import ModelSpec

GOAL = 0.05  # of the work


class Builds:
    """Builds of one index, each in a process of its own, forked from this one, which has loaded the model."""

    def __init__(self, images: int, nulls: int) -> None:
        self.model = load_model(ModelSpec(str(ASSETS / "emoji-diffusion")))
        artwork = Catalog.load(ASSETS / "emoji")
        trained, held_out = (artwork.of_split(split).images for split in ("train", "held_out"))
        few = (*trained[:: len(trained) // images][:images], *held_out[: 2 * nulls])
        few = tuple(sorted(few, key=lambda image: image.id))
        self.read = TrainingFolder("emoji", replace(artwork, images=few), "catalog.parquet")
        fisher = max(2, images * 150 // 3065)  # the share that the shipped index has
        self.plan = WholePlan(BuildPlan(fisher_images=fisher, shard_size=images // 2), null_pictures=nulls)

    def run(self, out: Path, counter: Path, until: int | None = None) -> None:
        """Build or go on; where `until` says so, only till the counter is there."""
        child = os.fork()
        if child == 0:
            try:
                _count_into(counter)
                build_whole(self.model, self.read, out, self.plan, lambda stage, done, total: None)
                os._exit(0)
            except BaseException as error:
                print(repr(error), file=sys.stderr)
                os._exit(1)
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if until is not None and _size(counter) >= until:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return
            time.sleep(0.002)


def _count_into(counter: Path) -> None:
    """Append a byte to a file for each latent that the UNet is given."""
    file, denoised = os.open(counter, os.O_WRONLY | os.O_APPEND | os.O_CREAT), LatentDiffusion._denoised

    def counted(model: LatentDiffusion, batch, draws):
        found = denoised(model, batch, draws)
        os.write(file, b"." * draws.u.numel())
        return found

    LatentDiffusion._denoised = counted  # type: ignore[method-assign]


def _size(counter: Path) -> int:
    return counter.stat().st_size if counter.exists() else 0


def _files(index: Path) -> dict[str, str]:
    """Names and SHA-256 of an index's files, but for the one that has the time in it."""
    return {name: digest for name, digest in Index.open(index).manifest.files.items() if name != ABOUT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--nulls", type=int, default=2)
    given = parser.parse_args()
    chance, builds, repeated, same = random.Random(0), Builds(given.images, given.nulls), [], 0
    with tempfile.TemporaryDirectory() as folder:
        whole, counter = Path(folder) / "whole", Path(folder) / "whole.count"
        builds.run(whole, counter)
        work, expected = _size(counter), _files(whole)
        print(f"{len(builds.read.catalog.images)} images: {work:,} latents through the UNet", flush=True)
        for number in range(given.kills):
            out, counter, at = Path(folder) / f"{number}", Path(folder) / f"{number}.count", chance.randrange(work)
            builds.run(out, counter, at)
            builds.run(out, counter)
            same += _files(out) == expected
            repeated.append(_size(counter) / work - 1)
            print(f"killed at {at / work:4.0%}: {repeated[-1]:.1%} repeated", flush=True)
            shutil.rmtree(out)
    print(f"the same index {same} of {given.kills} times")
    held = "held" if max(repeated) <= GOAL else "not held"
    print(
        f"repeated at most {max(repeated):.1%} ({max(repeated) * work:.0f} latents), on average "
        f"{sum(repeated) / len(repeated):.1%}; goal {GOAL:.0%}: {held}"
    )


if __name__ == "__main__":
    main()
