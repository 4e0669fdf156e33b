"""What removing images from training does to a query: the lab's model is trained again without them.

Every outcome is a line of a journal, with everything it follows from: the removed images, the query, and the settings,
which are the recipe, the initial weights and the seed. Removing the same images again needs no further training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from ..embedders.protocol import Embedder
from ..embedders.registry import load_embedder
from ..files.manifest import sha256_of
from ..models.generation import GenerationRequest
from ..models.sd import StableDiffusion, load
from ..training.lab import LabImages, load_lab, train_on
from ..types import LatentBatch, ModelSpec
from .ground_truth import GroundTruth, query_losses, read_weights, weights_path
from .journal import Journal

SEED = 1  # of every training here; the full model's is 0, so that removing nothing shows the effect of the seed alone
EMBEDDER = "unet"


@dataclass(frozen=True)
class Removal:
    """The number of a query that the lab generated, and the ids of the training images that are removed."""

    query: int
    images: frozenset[str]


@dataclass(frozen=True)
class Outcome:
    """How a query's loss and picture differ from those of the model that was trained on all images."""

    loss: float  # rise of its denoising loss, averaged over draws and noise seeds
    pixels: float  # mean squared error between the two pictures, with values from 0 to 1
    features: float  # 1 − cosine between the pictures' embeddings by the shipped model's UNet


@dataclass(frozen=True)
class Retraining:
    """Trains the lab's model again for outcomes that are not in the journal."""

    truth: GroundTruth
    journal: Journal

    def outcomes(
        self, removals: Iterable[Removal], on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> dict[Removal, Outcome]:
        """The outcome of each removal, with one training for each set of images.

        Progress counts trainings, in the order of `removals`. After an interruption only the training it hit is
        repeated.
        """
        wanted = list(dict.fromkeys(removals))
        lines = {_key_of(trial): trial for trial in self.journal.trials_with(self.settings)}
        keys = {removal: _key_of(self._outcome_of(removal)) for removal in wanted}
        sets = list(dict.fromkeys(removal.images for removal in wanted))
        for done, images in enumerate(sets):
            on_progress(done, len(sets))
            missing = [r for r in wanted if r.images == images and keys[r] not in lines]
            if not missing:
                continue
            model = self._trained_without(images)
            for removal in missing:
                line = {**self._outcome_of(removal), **asdict(self._measured(model, removal.query))}
                self.journal.append(line)
                lines[keys[removal]] = line
        on_progress(len(sets), len(sets))
        return {r: Outcome(*(lines[keys[r]][name] for name in ("loss", "pixels", "features"))) for r in wanted}

    def _outcome_of(self, removal: Removal) -> dict[str, Any]:
        """Everything that an outcome follows from."""
        without = {"images": _hash_of(removal.images), "count": len(removal.images)}
        query = asdict(self.truth.plan.queries[removal.query])
        return {"settings": self.settings, "query": query, "without": without}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What all trainings have in common."""
        truth, plan = self.truth, self.truth.plan
        return {
            "recipe": asdict(plan.recipe),
            "trained_on": _hash_of(plan.images),
            "start": sha256_of(weights_path(truth.folder, "start")),
            "full": sha256_of(weights_path(truth.folder, "full")),
            "shipped": self._shipped.fingerprint,
            "noise_seeds": plan.noise_seeds,
            "draws": plan.draws,
            "embedder": EMBEDDER,
            "seed": SEED,
        }

    def _trained_without(self, images: frozenset[str]) -> StableDiffusion:
        """The lab's model trained on the other images, its weights rounded as the full model's are on disk."""
        of_lab, recipe = self._images, self.truth.plan.recipe
        rows = [row for row, example_id in enumerate(of_lab.ids) if example_id not in images]
        start = read_weights(self.truth.folder, "start")
        trained = train_on(recipe, self._shipped, start, of_lab, rows, SEED)
        rounded = {name: weights.half().float() for name, weights in trained.items()}
        return load_lab(recipe, self.truth.shipped, rounded)

    def _measured(self, model: StableDiffusion, number: int) -> Outcome:
        query, before = self.truth.plan.queries[number], self.truth.picture(number)
        assert query.seed is not None, "a held-out picture cannot be generated again"
        after = model.generate(GenerationRequest(query.caption, seed=query.seed))
        rise = self._loss(model, number) - self._loss(self._full, number)
        return Outcome(rise, _squared_error(before, after), _dissimilarity(self._embedder, before, after))

    def _loss(self, model: StableDiffusion, number: int) -> float:
        """The loss of one query in a batch of its own, so that it does not depend on other queries."""
        query = self.truth.plan.queries[number]
        latents = model.encode_image([self.truth.picture(number)])
        batch = LatentBatch((query.id,), latents, model.encode_prompt([query.caption]))
        return float(query_losses(model, batch, self.truth.plan).mean())

    @cached_property
    def _shipped(self) -> StableDiffusion:
        return load(ModelSpec(str(self.truth.shipped)))

    @cached_property
    def _embedder(self) -> Embedder:
        return load_embedder(EMBEDDER, self._shipped)

    @cached_property
    def _images(self) -> LabImages:
        return LabImages.of(self._shipped, self.truth.images)

    @cached_property
    def _full(self) -> StableDiffusion:
        return self.truth.model("all")


def _squared_error(a: Image.Image, b: Image.Image) -> float:
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    return float(np.square(difference / 255).mean())


def _dissimilarity(embedder: Embedder, a: Image.Image, b: Image.Image) -> float:
    """1 − cosine of two pictures' embeddings, at least 0: rounding may take the cosine above 1."""
    one, other = embedder.embed([a, b]).double()
    return max(0.0, 1 - float(one @ other))


def _hash_of(ids: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def _key_of(line: dict[str, Any]) -> str:
    return json.dumps([line["query"], line["without"]], sort_keys=True)
