"""The customisation study's cases on disk: models fine-tuned on a few exemplars each, and what they then drew.

plan.json                       recipe, candidates, companions and every case with its exemplars
case-00/weights.safetensors     the change of the shipped model's weights, as low-rank factors in float16
case-00/exemplar-0.png          an exemplar made by a rule; the others are in the artwork
case-00/picture-0.png           drawn by the fine-tuned model from the exemplars' caption
case-00/case.json               the fine-tuned model's fingerprint, prompts, seeds, pictures' SHA-256; written last
manifest.json                   SHA-256 of every file above

Everything follows from plan.json (see `custom_plan`) by seeds, so making them resumes after an interruption.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from PIL import Image
from safetensors.torch import load_file, save_file

from ..errors import IndexMismatch, MissingAsset
from ..examples.catalog import Catalog, TrainingImage
from ..files import manifest
from ..files.atomic import write_json, writing
from ..models.generation import GenerationRequest
from ..models.sd import StableDiffusion, load
from ..training.customise import customise, load_customised
from ..training.lab import LabImages
from ..types import ModelSpec
from .custom_plan import CustomCase, CustomPlan, Exemplar, read_plan, view_of, write_plan

UNSEEN = 40  # of which the half least like any training image may make up the null distribution


@dataclass(frozen=True)
class CustomCases:
    """A folder of cases, with the artwork and the shipped model that they are made from."""

    folder: Path
    artwork: Catalog
    shipped: Path
    plan: CustomPlan
    device: str = "cpu"  # on which models are attributed

    @classmethod
    def open(cls, folder: Path, artwork: Catalog, shipped: Path, device: str = "cpu") -> CustomCases:
        """A verified folder. Raises MissingAsset or DamagedAsset naming the file at fault."""
        if not (folder / "plan.json").is_file():
            raise MissingAsset(f"“{folder.name}” has no plan.json, so it holds no cases. Make some with `study cases`.")
        manifest.verify_manifest(folder)
        return cls(folder, artwork, shipped, read_plan(folder), device)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the plan."""
        return manifest.sha256_of(self.folder / "plan.json")

    def made(self, case: CustomCase) -> bool:
        """Whether a case is complete."""
        return (self.folder_of(case) / "case.json").is_file()

    def fingerprint_of(self, case: CustomCase) -> str:
        """SHA-256 that identifies a case with its model and pictures; raises MissingAsset where it is not made yet."""
        if not self.made(case):
            raise MissingAsset(f"Case {case.number} of “{self.folder.name}” is not made yet. Run `study cases`.")
        return manifest.sha256_of(self.folder_of(case) / "case.json")

    def picture(self, case: CustomCase, number: int) -> Image.Image:
        """A picture that the fine-tuned model drew."""
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
        """The images to rank, in id order: the candidates and the case's exemplars."""
        rows = [self.artwork.by_id[image] for image in self.plan.candidates]
        rows += self.exemplars(case).images
        return Catalog(self.artwork.folder, tuple(sorted(rows, key=lambda row: row.id)))

    @cached_property
    def unseen(self) -> Catalog:
        """Held-out images, seen by neither the shipped nor any fine-tuned model, for the null distribution."""
        held_out = self.artwork.of_split("held_out").images
        chosen = random.Random("customisation/unseen").sample(held_out, min(UNSEEN, len(held_out)))
        return Catalog(self.artwork.folder, tuple(sorted(chosen, key=lambda image: image.id)))

    def exemplars(self, case: CustomCase) -> Catalog:
        """The exemplars as training images, which they are for the fine-tuned model."""
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
        """Fine-tune the model on the exemplars and let it draw pictures."""
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
    """Make those of the first `until` cases that are missing; raises InvalidRequest where `folder` has another plan."""
    folder.mkdir(parents=True, exist_ok=True)
    write_plan(folder, plan)
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
