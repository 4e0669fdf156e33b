"""Which training images the shipped model draws again from their captions: `make bench-regeneration`.

The images that training showed 25 times an epoch, as many that it showed once, and held-out ones beside which both
stand. Prints how many of each kind are drawn nearer than any held-out image. `--each 4` is a quick form.
"""

import argparse
import random
from collections.abc import Sequence

from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.regeneration import regenerated
from forwardinf.examples.catalog import TrainingImage

SEEDS = 2
KINDS = {"shown 25 times an epoch": lambda image: image.repeats > 1, "shown once": lambda image: image.repeats == 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=40, help="images of each kind")
    asked = parser.parse_args()
    attributor, reach = Attributor.load(), ()
    trained = attributor.index.catalog.of_split("train").images
    print(f"| training images | asked | one of {SEEDS} pictures nearer | all nearer | nearest, median |")
    print("|---|---|---|---|---|")
    for kind, belongs in KINDS.items():
        of_kind = [image for image in trained if belongs(image)]
        chosen = random.Random(0).sample(of_kind, min(asked.each, len(of_kind)))
        found, reach = nearness(attributor, chosen, reach)
        print(row(kind, found, max(reach)))
    print(f"\nPictures of {len(reach)} held-out images came to them at {max(reach):.2f} at most.")


def nearness(
    attributor: Attributor, images: Sequence[TrainingImage], reach: tuple[float, ...]
) -> tuple[list[list[float]], tuple[float, ...]]:
    """How near each image's pictures come, and how near those of held-out images do, where that is not known yet."""
    found = []
    for image in images:
        for now in regenerated(attributor, image.id, SEEDS):
            if reach and len(now.drawn) == now.seeds:
                break
        found.append([drawn.likeness for drawn in now.drawn])
        reach = reach or now.reach
    return found, reach


def row(kind: str, found: list[list[float]], highest: float) -> str:
    some = sum(max(near) > highest for near in found)
    every = sum(min(near) > highest for near in found)
    median = sorted(max(near) for near in found)[len(found) // 2]
    return f"| {kind} | {len(found)} | {some} | {every} | {median:.2f} |"


if __name__ == "__main__":
    main()
