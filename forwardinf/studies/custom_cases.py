"""Models that were taught a few pictures of their own, on disk: whose pictures are known to come from those exemplars.

plan.json                       recipe, candidates, companions and every case with its exemplars
case-00/weights.safetensors     by how much the shipped model's weights moved, as factors in float16
case-00/exemplar-0.png          where an exemplar was made by rule; else it is in the artwork
case-00/picture-0.png           drawn by the fine-tuned model from the exemplars' caption
case-00/case.json               the fine-tuned model's fingerprint, prompts, seeds, pictures' SHA-256; written last
manifest.json                   SHA-256 of every file above

Attribution by Customisation (Wang et al. 2023, arXiv 2306.09345) in miniature. As there, the exemplars of a case show
one thing, and the model is taught them under one caption, from which it then draws: had each a caption of its own, a
picture would be drawn from one of them, and the others would be no answer. Everything follows from plan.json by seeds,
so a making that was cut off goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import load_file, save_file

from ..errors import IndexMismatch, InvalidRequest, MissingAsset
from ..examples.catalog import Catalog, TrainingImage
from ..files import manifest
from ..files.atomic import write_json, writing
from ..models.generation import GenerationRequest
from ..models.sd import StableDiffusion, load
from ..training.customise import CustomRecipe, customise, load_customised
from ..training.lab import LabImages
from ..types import ModelSpec
from .procedural import KINDS as RULES
from .procedural import procedural

PARTS = ("choosing", "reported")  # settings are chosen on the first alone
KINDS = ("artwork", "procedural")
MOST_EXEMPLARS = 5
MOST_CASES = 60
UNSEEN = 40  # half of them, those unlike any training image, may be asked as a reference
Images = dict[str, list[TrainingImage]]  # by collection


@dataclass(frozen=True)
class Exemplar:
    """A picture that a model is taught; `view` is which part of the case's pattern it shows, None for artwork."""

    id: str
    view: int | None


@dataclass(frozen=True)
class CustomCase:
    """One model to fine-tune.

    Its exemplars are alike: the artwork of a subgroup in one collection that is most so by perceptual hash, or views of
    one pattern that a rule made.
    """

    number: int
    part: str
    kind: str
    group: str
    caption: str  # of all exemplars
    exemplars: tuple[Exemplar, ...]


@dataclass(frozen=True)
class CustomPlan:
    """What is taught, and among which training images the exemplars have to be found."""

    recipe: CustomRecipe
    candidates: tuple[str, ...]
    companions: tuple[str, ...]  # shown beside the exemplars; no candidates, which stay as they were trained
    cases: tuple[CustomCase, ...]
    pictures: int = 4  # of each case

    @classmethod
    def of(
        cls,
        artwork: Catalog,
        recipe: CustomRecipe,
        candidates: int = 1000,
        companions: int = 500,
    ) -> CustomPlan:
        """Sixty cases; a prefix of them has both parts, both kinds and all numbers of exemplars in equal shares.

        Every 20 in a row hold each combination once. No two cases have an exemplar or a subgroup in common.
        """
        trained = [image.id for image in artwork.of_split("train").images]
        order = random.Random("customisation/candidates").sample(trained, candidates + companions)
        groups = _groups(artwork)
        cases = tuple(_case(number, groups) for number in range(MOST_CASES))
        return cls(recipe, tuple(sorted(order[:candidates])), tuple(sorted(order[candidates:])), cases)


@dataclass(frozen=True)
class CustomCases:
    """A folder of cases, with the artwork and the shipped model that it rests on."""

    folder: Path
    artwork: Catalog
    shipped: Path
    plan: CustomPlan
    device: str = "cpu"  # on which models are attributed

    @classmethod
    def open(cls, folder: Path, artwork: Catalog, shipped: Path, device: str = "cpu") -> CustomCases:
        """Raises MissingAsset or DamagedAsset naming the file that is not as it should be."""
        if not (folder / "plan.json").is_file():
            raise MissingAsset(f"“{folder.name}” has no plan.json, so no cases. Make some with `study cases`.")
        manifest.verify_manifest(folder)
        return cls(folder, artwork, shipped, _read_plan(folder), device)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the plan."""
        return manifest.sha256_of(self.folder / "plan.json")

    def made(self, case: CustomCase) -> bool:
        return (self.folder_of(case) / "case.json").is_file()

    def fingerprint_of(self, case: CustomCase) -> str:
        """SHA-256 that names a case with its model and pictures; raises MissingAsset where it was not made yet."""
        if not self.made(case):
            raise MissingAsset(f"Case {case.number} of “{self.folder.name}” is not made yet. Run `study cases`.")
        return manifest.sha256_of(self.folder_of(case) / "case.json")

    def picture(self, case: CustomCase, number: int) -> Image.Image:
        with Image.open(self.folder_of(case) / f"picture-{number}.png") as file:
            return file.convert("RGB")

    def model(self, case: CustomCase, tunable: str) -> StableDiffusion:
        """The fine-tuned model; raises IndexMismatch where it is not the one that drew the pictures."""
        model = load_customised(self.shipped, load_file(self._weights_path(case)), tunable, self.device)
        if model.fingerprint != json.loads((self.folder_of(case) / "case.json").read_text(encoding="utf-8"))["model"]:
            raise IndexMismatch(
                f"Case {case.number} of “{self.folder.name}” was made from another model than “{self.shipped.name}”. "
                "Make the cases again with `study cases`, in a new folder."
            )
        return model

    def images(self, case: CustomCase) -> Catalog:
        """What the model may have learned a picture from, in id order: the candidates and the case's exemplars."""
        rows = [self.artwork.by_id[image] for image in self.plan.candidates]
        rows += self.exemplars(case).images
        return Catalog(self.artwork.folder, tuple(sorted(rows, key=lambda row: row.id)))

    @cached_property
    def unseen(self) -> Catalog:
        """Held-out images that neither the shipped model nor any case's has seen, for a reference."""
        held_out = self.artwork.of_split("held_out").images
        chosen = random.Random("customisation/unseen").sample(held_out, min(UNSEEN, len(held_out)))
        return Catalog(self.artwork.folder, tuple(sorted(chosen, key=lambda image: image.id)))

    def exemplars(self, case: CustomCase) -> Catalog:
        """The exemplars as training images, which for this model they are."""
        rows = []
        for number, exemplar in enumerate(case.exemplars):
            if exemplar.view is None:
                row = self.artwork.by_id[exemplar.id]
                rows.append(replace(row, caption=case.caption, split="train", repeats=1))
            else:
                rows.append(self._made_by_rule(case, exemplar, self.folder_of(case) / f"exemplar-{number}.png"))
        return Catalog(self.artwork.folder, tuple(rows))

    def folder_of(self, case: CustomCase) -> Path:
        return self.folder / f"case-{case.number:02}"

    def make(self, case: CustomCase, companions: LabImages, shipped: StableDiffusion) -> None:
        """Fine-tune the model on the exemplars and let it draw."""
        folder = self.folder_of(case)
        folder.mkdir(exist_ok=True)
        for number, exemplar in enumerate(case.exemplars):
            if exemplar.view is not None:
                view_of(case, exemplar.view).save(folder / f"exemplar-{number}.png")
        exemplars = LabImages.of(shipped, self.exemplars(case))
        kept = customise(self.shipped, self.plan.recipe, exemplars, companions, case.number)
        with writing(self._weights_path(case)) as aside:
            save_file(kept, aside)
        model = load_customised(self.shipped, kept, ModelSpec.tunable)
        pictures = []
        for number in range(self.plan.pictures):
            request = GenerationRequest(case.caption, seed=100 * case.number + number)
            path = folder / f"picture-{number}.png"
            model.generate(request).save(path)
            pictures.append(asdict(request) | {"sha256": manifest.sha256_of(path)})
        write_json(folder / "case.json", {"model": model.fingerprint, "case": asdict(case), "pictures": pictures})

    def _weights_path(self, case: CustomCase) -> Path:
        return self.folder_of(case) / "weights.safetensors"

    def _made_by_rule(self, case: CustomCase, exemplar: Exemplar, path: Path) -> TrainingImage:
        with Image.open(path) as picture:
            width, height = picture.size
        beside = os.path.relpath(path.resolve(), self.artwork.folder.resolve())
        return TrainingImage(
            id=exemplar.id, file_name=beside, collection="procedural", creator="Forward-INF", licence="Apache-2.0",
            licence_url="", source_package="", source_version="", source_file="", source_url="",
            caption=case.caption, subject=case.group, group="procedural", subgroup=case.group, tags="",
            width=width, height=height, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), phash="",
            split="train", repeats=1,
        )  # fmt: skip


def make(
    folder: Path,
    artwork: Catalog,
    shipped: Path,
    plan: CustomPlan,
    until: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CustomCases:
    """Make what is missing of the first `until` cases; raises InvalidRequest where others were begun in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_plan(folder, plan)
    cases = CustomCases(folder, artwork, shipped, plan)
    missing = [case for case in plan.cases[:until] if not cases.made(case)]
    if missing:
        model = load(ModelSpec(str(shipped)))
        companions = LabImages.of(model, Catalog(artwork.folder, tuple(artwork.by_id[i] for i in plan.companions)))
        for done, case in enumerate(missing):
            on_progress(done, len(missing))
            cases.make(case, companions, model)
            manifest.write_manifest(folder)
        on_progress(len(missing), len(missing))
    manifest.write_manifest(folder)
    return CustomCases.open(folder, artwork, shipped)


def view_of(case: CustomCase, view: int, side: int = 64) -> Image.Image:
    """A square part of the pattern of a case, which is made by its rule; views overlap."""
    whole = procedural(case.group, case.number, 3 * side // 2)
    chance = random.Random(f"customisation/{case.number}/view/{view}")
    left, top = chance.randint(0, side // 2), chance.randint(0, side // 2)
    return whole.crop((left, top, left + side, top + side))


def _groups(artwork: Catalog) -> list[tuple[str, Images]]:
    """Reserve artwork that belongs together and that nothing in training repeats, by subgroup and collection.

    Of subgroups that every collection has, in a random order.
    """
    known = [image for image in artwork.images if image.split != "reserve"]
    captions, hashes = {image.caption for image in known}, {image.phash for image in known}
    found: dict[str, Images] = defaultdict(lambda: defaultdict(list))
    for image in artwork.of_split("reserve").images:
        if image.caption not in captions and image.phash not in hashes:
            found[image.subgroup][image.collection].append(image)
    collections = {image.collection for image in artwork.images}
    shared = [
        name for name, images in sorted(found.items()) if all(len(images[c]) >= MOST_EXEMPLARS for c in collections)
    ]
    order = random.Random("customisation/groups").sample(shared, len(shared))
    return [(name, {collection: found[name][collection] for collection in sorted(collections)}) for name in order]


def _case(number: int, groups: list[tuple[str, Images]]) -> CustomCase:
    kind, of_kind, part = KINDS[number % 2], number // 2, PARTS[number // 2 % 2]
    # Each round of 20 begins at another number of exemplars, so that a round that is cut short stays fair.
    count = 1 + (number // 4 + 2 * (number // 20)) % MOST_EXEMPLARS
    if kind == "artwork":
        if of_kind >= len(groups):
            raise InvalidRequest(f"The reserve has {len(groups)} subgroups that every collection has; it takes more.")
        subgroup, by_collection = groups[of_kind]
        collection = _in_turn(sorted(by_collection), of_kind)
        chosen = _alike(by_collection[collection], count, random.Random(f"customisation/{number}"))
        caption = f"{subgroup.replace('-', ' ')}, {chosen[0].caption.rpartition(', ')[2]}"
        exemplars = tuple(Exemplar(image.id, None) for image in chosen)
        return CustomCase(number, part, kind, f"{collection} {subgroup}", caption, exemplars)
    rule = _in_turn(RULES, of_kind)
    exemplars = tuple(Exemplar(f"{rule}-{number}-{view}", view) for view in range(count))
    return CustomCase(number, part, kind, rule, f"{rule}, Procedural style", exemplars)


def _alike(images: Sequence[TrainingImage], count: int, chance: random.Random) -> list[TrainingImage]:
    """An image with its nearest ones, `count` in all: where the farthest of these is nearest, and else at random."""
    around = [
        sorted(images, key=lambda image: (image is not first, _distance(image, first), image.id))[:count]
        for first in chance.sample(images, len(images))
    ]
    return min(around, key=lambda chosen: max(_distance(image, chosen[0]) for image in chosen))


def _distance(a: TrainingImage, b: TrainingImage) -> int:
    """In how many bits two perceptual hashes differ."""
    return (int(a.phash, 16) ^ int(b.phash, 16)).bit_count()


def _in_turn(names: Sequence[str], of_kind: int) -> str:
    """Each part goes through all names, the second beginning halfway."""
    return names[(of_kind // 2 + of_kind % 2 * len(names) // 2) % len(names)]


def _read_plan(folder: Path) -> CustomPlan:
    fields: dict[str, Any] = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    cases = [
        CustomCase(**{**case, "exemplars": tuple(Exemplar(**exemplar) for exemplar in case["exemplars"])})
        for case in fields["cases"]
    ]
    names = {name: tuple(fields[name]) for name in ("candidates", "companions")}
    return CustomPlan(**{**fields, **names, "recipe": CustomRecipe(**fields["recipe"]), "cases": tuple(cases)})


def _write_plan(folder: Path, plan: CustomPlan) -> None:
    if not (folder / "plan.json").is_file():
        write_json(folder / "plan.json", asdict(plan))
    elif _read_plan(folder) != plan:
        raise InvalidRequest(f"“{folder.name}” holds cases made otherwise. Remove it, or name another folder.")
