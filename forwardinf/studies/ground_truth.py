"""The lab's ground truth on disk: the loss of each query after training on each of many random half subsets.

lab.json              recipe, training images, queries and subsets
start.safetensors     initial weights of every training, in float16
full.safetensors      weights trained on all images: the model that is attributed and that generated half of the queries
queries/000.png       pictures as they are queried
losses.npy            loss of every query under every subset's model, [subsets, queries × noise seeds] in float32
manifest.json         SHA-256 of every file above
*.jsonl               journals of studies that train again, which grow and so are not in the manifest

Models of subsets are not kept. Everything follows from lab.json by seeds, so making a lab resumes after an
interruption, and another machine gets the same up to rounding.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ..draws import DrawPlan
from ..errors import InvalidRequest, MissingAsset
from ..examples.catalog import Catalog
from ..examples.decoding import to_square
from ..files import manifest
from ..files.atomic import write_json, writing
from ..files.rows import RowCache
from ..models.generation import GenerationRequest
from ..models.sd import StableDiffusion, load
from ..training.lab import LabImages, Recipe, Weights, load_lab, train_on, train_start
from ..types import LatentBatch, ModelSpec

JOURNALS = "*.jsonl"
CHOSEN_BY = 15  # the first queries of each origin, on which settings were chosen
PARTS = {"choosing": slice(CHOSEN_BY), "reported": slice(CHOSEN_BY, None), "all": slice(None)}


def require_part(part: str) -> None:
    """Raise InvalidRequest for a name that is not one of the `PARTS`."""
    if part not in PARTS:
        raise InvalidRequest(f"There is no part “{part}”; the parts are: {', '.join(PARTS)}.")


@dataclass(frozen=True)
class LabQuery:
    """A query; `seed` is that of its generation, None for a held-out picture."""

    id: str
    caption: str
    seed: int | None


@dataclass(frozen=True)
class LabPlan:
    """What the ground truth consists of."""

    recipe: Recipe
    images: tuple[str, ...]
    queries: tuple[LabQuery, ...]
    subsets: int = 64
    noise_seeds: int = 3
    draws: int = 16  # of each noise seed

    @classmethod
    def of(cls, artwork: Catalog, recipe: Recipe, count: int = 1000, queries: int = 100) -> LabPlan:
        """`count` random training images, and `queries` of each origin: generated from their captions, and held out."""
        train, held_out = artwork.of_split("train"), artwork.of_split("held_out")
        order = random.Random("lab/images").sample(train.images, count)
        drawn = [LabQuery(f"drawn-{seed:03}", image.caption, seed) for seed, image in enumerate(order[:queries])]
        others = random.Random("lab/held_out").sample(held_out.images, queries)
        kept = [LabQuery(image.id, image.caption, None) for image in others]
        return cls(recipe, tuple(sorted(image.id for image in order)), (*drawn, *kept))

    def numbers(self, drawn: bool, part: str) -> list[int]:
        """Numbers of the queries that the lab generated, or of the held-out ones, in one of the `PARTS`."""
        return [n for n, query in enumerate(self.queries) if (query.seed is not None) == drawn][PARTS[part]]

    @cached_property
    def masks(self) -> np.ndarray:
        """The half of the images that each subset holds, `[subsets, images]` of bool."""
        n = len(self.images)
        masks = np.zeros((self.subsets, n), dtype=bool)
        for number, mask in enumerate(masks):
            mask[random.Random(f"lab/subset/{number}").sample(range(n), n // 2)] = True
        return masks


@dataclass(frozen=True)
class GroundTruth:
    """A verified lab folder, with the artwork and the shipped model that it is made from."""

    folder: Path
    artwork: Catalog
    shipped: Path
    plan: LabPlan
    device: str = "cpu"  # on which the model is attributed

    @classmethod
    def open(cls, folder: Path, artwork: Catalog, shipped: Path, device: str = "cpu") -> GroundTruth:
        """Raises MissingAsset or DamagedAsset naming the file at fault."""
        if not (folder / "lab.json").is_file():
            raise MissingAsset(f"“{folder.name}” is not a lab: it has no lab.json. Make one with `study lab`.")
        manifest.verify_manifest(folder)
        return cls(folder, artwork, shipped, _read_plan(folder), device)

    @cached_property
    def losses(self) -> np.ndarray:
        """`[finished subsets, queries, noise seeds]`."""
        return self._rows[self.finished].reshape(-1, len(self.plan.queries), self.plan.noise_seeds)

    @cached_property
    def finished(self) -> np.ndarray:
        """Which subsets have been trained on, `[subsets]` of bool."""
        return np.isfinite(self._rows).all(axis=1)

    @cached_property
    def images(self) -> Catalog:
        """The lab's training images, in the order of the masks' columns."""
        return Catalog(self.artwork.folder, tuple(self.artwork.by_id[i] for i in self.plan.images))

    @cached_property
    def unseen(self) -> Catalog:
        """Held-out images that are not queries of the lab, for the null distribution."""
        queries = {query.id for query in self.plan.queries}
        held_out = self.artwork.of_split("held_out").images
        return Catalog(self.artwork.folder, tuple(image for image in held_out if image.id not in queries))

    def picture(self, number: int) -> Image.Image:
        """The picture of a query."""
        with Image.open(_picture_path(self.folder, number)) as file:
            return file.convert("RGB")

    def model(self, tunable: str) -> StableDiffusion:
        """The model that is attributed."""
        return load_lab(self.plan.recipe, self.shipped, read_weights(self.folder, "full"), tunable, self.device)

    @cached_property
    def _rows(self) -> np.ndarray:
        return np.load(self.folder / "losses.npy")


def make(
    folder: Path,
    artwork: Catalog,
    shipped: Path,
    plan: LabPlan,
    work: Path,
    until: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> GroundTruth:
    """Make what is missing of a lab, up to its first `until` subsets.

    Raises InvalidRequest where `folder` holds a lab of another plan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_plan(folder, plan)
    shipped_model = load(ModelSpec(str(shipped)))
    if not weights_path(folder, "start").is_file():
        reserve = LabImages.of(shipped_model, artwork.of_split("reserve"))
        _write_weights(folder, "start", train_start(plan.recipe, shipped_model, reserve, work / "start"))
    start = read_weights(folder, "start")
    of_lab = Catalog(artwork.folder, tuple(artwork.by_id[i] for i in plan.images))
    images = LabImages.of(shipped_model, of_lab)
    if not weights_path(folder, "full").is_file():
        everything = train_on(plan.recipe, shipped_model, start, images, range(len(images.ids)), seed=0)
        _write_weights(folder, "full", everything)
    model = load_lab(plan.recipe, shipped, read_weights(folder, "full"))
    _draw_queries(folder, artwork, plan, model)
    queries = query_batch(folder, plan, model)
    rows = RowCache.open(folder / "losses.npy", plan.subsets, len(plan.queries) * plan.noise_seeds)
    for number in range(until):
        on_progress(number, until)
        if rows.get(number) is None:
            weights = train_on(plan.recipe, shipped_model, start, images, plan.masks[number].nonzero()[0], number + 1)
            model.unet.load_state_dict(weights)
            rows.put(number, query_losses(model, queries, plan).flatten().numpy())
            manifest.write_manifest(folder, besides=JOURNALS)
    on_progress(until, until)
    manifest.write_manifest(folder, besides=JOURNALS)
    return GroundTruth.open(folder, artwork, shipped)


def query_batch(folder: Path, plan: LabPlan, model: StableDiffusion) -> LatentBatch:
    """All queries, encoded."""
    pictures = []
    for number in range(len(plan.queries)):
        with Image.open(_picture_path(folder, number)) as file:
            pictures.append(file.convert("RGB"))
    conditioning = model.encode_prompt([query.caption for query in plan.queries])
    return LatentBatch(tuple(query.id for query in plan.queries), model.encode_image(pictures), conditioning)


@torch.inference_mode()
def query_losses(model: StableDiffusion, queries: LatentBatch, plan: LabPlan) -> torch.Tensor:
    """Mean losses over draws, `[queries, noise seeds]`; the draws are the same for all queries and models."""
    model.unet.eval()
    means = []
    for seed in range(plan.noise_seeds):
        draws = DrawPlan(seed, plan.draws, shared=True)
        parts = [queries.rows(start, start + 4) for start in range(0, len(queries.example_ids), 4)]
        losses = [model.loss(p, draws.draws(p.example_ids, p.latents.shape[1:])).mean(dim=1) for p in parts]
        means.append(torch.cat(losses))
    return torch.stack(means, dim=1)


def weights_path(folder: Path, name: str) -> Path:
    """The file of the `start` or `full` weights."""
    return folder / f"{name}.safetensors"


def read_weights(folder: Path, name: str) -> Weights:
    """The `start` or `full` weights in float32."""
    return {key: value.float() for key, value in load_file(weights_path(folder, name)).items()}


def _draw_queries(folder: Path, artwork: Catalog, plan: LabPlan, model: StableDiffusion) -> None:
    for number, query in enumerate(plan.queries):
        path = _picture_path(folder, number)
        if path.is_file():
            continue
        if query.seed is None:
            with Image.open(io.BytesIO(artwork.read_bytes(artwork.by_id[query.id]))) as file:
                picture = to_square(file.convert("RGB"), model.picture_size)
        else:
            picture = model.generate(GenerationRequest(query.caption, seed=query.seed))
        with writing(path) as aside:
            picture.save(aside, format="png")


def _read_plan(folder: Path) -> LabPlan:
    fields = json.loads((folder / "lab.json").read_text(encoding="utf-8"))
    recipe: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.pop("recipe").items()
    }
    queries = tuple(LabQuery(**query) for query in fields.pop("queries"))
    return LabPlan(Recipe(**recipe), tuple(fields.pop("images")), queries, **fields)


def _write_plan(folder: Path, plan: LabPlan) -> None:
    """Raises InvalidRequest where another lab was begun there."""
    if (folder / "lab.json").is_file():
        if _read_plan(folder) != plan:
            raise InvalidRequest(f"“{folder.name}” holds a lab of another plan. Remove it, or name another folder.")
        return
    write_json(folder / "lab.json", asdict(plan))


def _picture_path(folder: Path, number: int) -> Path:
    return folder / "queries" / f"{number:03}.png"


def _write_weights(folder: Path, name: str, weights: Weights) -> None:
    with writing(weights_path(folder, name)) as aside:
        save_file({key: value.half().contiguous() for key, value in weights.items()}, aside)
