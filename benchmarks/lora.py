"""Are the pictures that a LoRA was trained on found from what it draws, and is what its base draws left alone?

make bench-lora, or: python benchmarks/lora.py --keys kohya --images 20

A LoRA is trained on a few pictures that the shipped model has never seen, saved by each program's keys, and read again
as `--lora` reads it. Its index takes null pictures drawn with the LoRA left out. From the caption of each training
picture, the model then draws one picture with the LoRA, which should find that training picture first, and one without
it, which should find none that stands out. The training pictures' errors should behave as trained on beside those of as
many others, and as many others' should not.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from forwardinf.attribution.attributor import DEFAULT_METHOD, Attributor
from forwardinf.attribution.build_null import QUERIES, measure_null
from forwardinf.attribution.membership import in_words, membership_of
from forwardinf.attribution.null_pictures import Drawn
from forwardinf.config import ASSETS
from forwardinf.examples.catalog import Catalog, TrainingImage
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.models.generation import GenerationRequest
from forwardinf.models.protocol import adapted
from forwardinf.models.registry import load_model
from forwardinf.models.sd import load
from forwardinf.studies.intervals import wilson_interval
from forwardinf.training.adapt import Factors, LoraRecipe, save_as_kohya, save_as_peft, train_lora
from forwardinf.training.lab import LabImages
from forwardinf.types import Adapter, ModelSpec

SHIPPED = ASSETS / "emoji-diffusion"
WITH_SEED, WITHOUT_SEED = 500_000, 900_000  # of the queries' pictures; null pictures have small ones


@dataclass(frozen=True)
class Trial:
    """A picture drawn from a training picture's caption, and what was found from it."""

    rank: int  # of that training picture
    called: bool  # whether any image stands out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", nargs="+", choices=("kohya", "peft"), default=["kohya", "peft"])
    parser.add_argument("--images", type=int, default=20, help="training pictures")
    parser.add_argument("--steps", type=int, default=LoraRecipe.steps, help="of training")
    parser.add_argument("--null-pictures", type=int, default=QUERIES)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    recipe, source = LoraRecipe(steps=asked.steps), unseen(Catalog.load(ASSETS / "emoji"), asked.images, asked.seed)
    began = time.perf_counter()
    factors = train_lora(SHIPPED, recipe, LabImages.of(load(ModelSpec(str(SHIPPED))), source), asked.seed)
    print(f"trained on {asked.images} pictures for {recipe.steps} steps: {time.perf_counter() - began:.0f} s")
    for keys in asked.keys:
        with tempfile.TemporaryDirectory() as work:
            attributor = attributor_of(keys, factors, recipe, source, asked.null_pictures, Path(work))
            by_errors(keys, attributor, source, asked.seed)
            report(keys, *found(attributor, source))


def unseen(artwork: Catalog, count: int, seed: int) -> Catalog:
    """Random pictures that the shipped model was not trained on, as a training set."""
    reserve = artwork.of_split("reserve").images
    chosen = sorted(random.Random(seed).sample(reserve, count), key=lambda image: image.id)
    return replace(artwork, images=tuple(replace(image, split="train") for image in chosen))


def attributor_of(
    keys: str, factors: Factors, recipe: LoraRecipe, source: Catalog, null_pictures: int, work: Path
) -> Attributor:
    """The shipped model with the LoRA as saved by these keys, and its index and null."""
    save = {"kohya": lambda: save_as_kohya(factors, recipe, work / "style.safetensors"),
            "peft": lambda: save_as_peft(factors, recipe, work / "style")}[keys]  # fmt: skip
    model = load_model(ModelSpec(str(SHIPPED), tunable="adapter", adapter=Adapter(str(save()))))
    began = time.perf_counter()
    attributor = Attributor(model, build_index(model, source, work / "index", BuildPlan()))
    drawn = Drawn.of(model, source, null_pictures)
    index = measure_null(attributor, DEFAULT_METHOD, drawn, unprompted=False)
    moved = sum(weights.numel() for weights in model.tunable_parameters().values())
    print(f"\n{keys}: index and null in {time.perf_counter() - began:.0f} s; {moved:,} weights move")
    return replace(attributor, index=index)


def found(attributor: Attributor, source: Catalog) -> tuple[list[Trial], list[Trial]]:
    """Trials with the LoRA, and with it left out."""
    model = adapted(attributor.model)
    assert model is not None
    numbered = list(enumerate(source.images))
    with_it = [trial(attributor, image, WITH_SEED + n) for n, image in numbered]
    requests = [GenerationRequest(image.caption, WITHOUT_SEED + n) for n, image in numbered]
    with model.without_adapter():
        pictures = [attributor.model.generate(request) for request in requests]
    return with_it, [judged(attributor, image, picture) for (_, image), picture in zip(numbered, pictures, strict=True)]


def by_errors(keys: str, attributor: Attributor, source: Catalog, seed: int) -> None:
    """Whether the training pictures, and as many others, behave as trained on beside as many more."""
    known, reserve = {image.id for image in source.images}, Catalog.load(ASSETS / "emoji").of_split("reserve").images
    drawn = random.Random(seed + 1).sample([image for image in reserve if image.id not in known], 2 * len(known))
    never, held_out = (replace(source, images=tuple(drawn[part::2])) for part in (0, 1))
    for told, images in (("its own", source), ("others", never)):
        print(f"{keys}: {told}: {in_words(membership_of(attributor.model, images, held_out)).told}")


def trial(attributor: Attributor, image: TrainingImage, seed: int) -> Trial:
    return judged(attributor, image, attributor.model.generate(GenerationRequest(image.caption, seed)))


def judged(attributor: Attributor, image: TrainingImage, picture) -> Trial:
    scores = attributor.attribute(picture, image.caption)
    called = attributor.confidence(scores, DEFAULT_METHOD).number_standing_out
    return Trial(scores.rank_of(image.id), bool(called))


def report(keys: str, with_it: list[Trial], without: list[Trial]) -> None:
    """Mean average precision, where each picture has one right answer, and how often images are said to stand out."""
    precision = sum(1 / t.rank for t in with_it) / len(with_it)
    print(f"{keys}: mAP {precision:.3f} over {len(with_it)} pictures drawn with the LoRA (ranks {ranks(with_it)})")
    for told, group in (("with the LoRA", with_it), ("with it left out", without)):
        called = sum(t.called for t in group)
        low, high = wilson_interval(called, len(group))
        print(f"{keys}: something stands out for {called} of {len(group)} drawn {told} [{low:.0%}, {high:.0%}]")


def ranks(trials: list[Trial]) -> str:
    def counts() -> Iterator[str]:
        for rank in sorted({t.rank for t in trials}):
            yield f"{rank}: {sum(t.rank == rank for t in trials)}"

    return ", ".join(counts())


if __name__ == "__main__":
    main()
