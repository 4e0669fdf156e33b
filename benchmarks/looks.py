"""Which caption a picture without a prompt is given: of training images in disguise, and of pictures held out.

make bench-looks, or: python benchmarks/looks.py --embedders unet artwork --images 50

A copy's caption is right where it is its original's; a held-out picture's, where it names the same thing, as another
artist drew it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from forwardinf.attribution.attributor import Attributor
from forwardinf.config import ASSETS
from forwardinf.embedders.registry import load_embedder
from forwardinf.examples.catalog import Catalog, TrainingImage
from forwardinf.examples.decoding import to_square
from forwardinf.index.embed import embed_anew
from forwardinf.studies.disguised import DISGUISES, half_of
from forwardinf.studies.intervals import wilson_interval

HELD_OUT = "held out"


@dataclass(frozen=True)
class Trial:
    """A picture, and whether the caption that it was given is right."""

    kind: str  # of disguise, or HELD_OUT
    image: TrainingImage
    given: str
    right: bool
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedders", nargs="+", default=["unet", "artwork"])
    parser.add_argument("--images", type=int, default=50, help="training images, each in every disguise")
    parser.add_argument("--held-out", type=int, default=80, help="held-out pictures of the part, at most")
    parser.add_argument("--part", choices=("choosing", "reported"), default="reported")
    parser.add_argument("--show", action="store_true", help="print what each held-out picture was taken for")
    asked = parser.parse_args()
    attributor, artwork = Attributor.load(), Catalog.load(ASSETS / "emoji")
    for name in asked.embedders:
        with tempfile.TemporaryDirectory() as folder:
            by = embedding_by(attributor, name, artwork, Path(folder) / "index")
            found = list(trials(by, artwork, *chosen(artwork, asked.images, asked.held_out, asked.part)))
        report(name, found)
        for trial in found:
            if asked.show and trial.kind == HELD_OUT:
                print(f"  {trial.image.caption}: {trial.given}{'' if trial.right else ' (wrong)'}")


def embedding_by(attributor: Attributor, name: str, artwork: Catalog, folder: Path) -> Attributor:
    """The same model and images, compared by another embedder."""
    embedder = load_embedder(name, attributor.model)
    if embedder.fingerprint == attributor.index.info.embedder_fingerprint:
        return attributor
    return replace(attributor, index=embed_anew(attributor.index, embedder, artwork, folder), embedder=embedder)


def chosen(
    artwork: Catalog, count: int, held_out_count: int, part: str
) -> tuple[list[TrainingImage], list[TrainingImage]]:
    """Training images and held-out pictures of a part: settings are chosen on the one half, the other is reported.

    Only held-out pictures of things of which another artist's drawing was trained on.
    """
    trained, held_out = (list(artwork.of_split(split).images) for split in ("train", "held_out"))
    subjects = {image.subject for image in trained}
    drawn_by_others = [image for image in held_out if image.subject in subjects]
    return half_of(trained, part)[:count], half_of(drawn_by_others, part)[:held_out_count]


def trials(
    attributor: Attributor, artwork: Catalog, copied: list[TrainingImage], held_out: list[TrainingImage]
) -> Iterator[Trial]:
    for image in copied:
        square = to_square(artwork.picture(image), attributor.model.picture_size)
        for kind, disguise in DISGUISES.items():
            yield trial(attributor, kind, image, disguise(square), lambda given, image=image: given == image.caption)
    for image in held_out:
        same = {other.caption for other in artwork.images if other.subject == image.subject}
        yield trial(attributor, HELD_OUT, image, artwork.picture(image), lambda given, same=same: given in same)


def trial(
    attributor: Attributor, kind: str, image: TrainingImage, picture: Image.Image, is_right: Callable[[str], bool]
) -> Trial:
    began = time.perf_counter()
    given = attributor.query(picture).fallback_caption
    assert given is not None, "a picture without a prompt is given a caption"
    return Trial(kind, image, given, is_right(given), time.perf_counter() - began)


def report(name: str, found: list[Trial]) -> None:
    print(f"\nright captions by “{name}”, with 95 % intervals")
    groups = {kind: [t for t in found if t.kind == kind] for kind in (*DISGUISES, HELD_OUT)}
    for kind, group in {**groups, "all disguises": [t for t in found if t.kind != HELD_OUT]}.items():
        right = sum(t.right for t in group)
        low, high = wilson_interval(right, len(group))
        print(f"{kind:13}  {right:4} of {len(group):4}  {right / max(1, len(group)):6.1%} [{low:.1%}, {high:.1%}]")
    print(f"{1000 * statistics.median(t.seconds for t in found):.0f} ms per query, encoded (median)")


if __name__ == "__main__":
    main()
