"""The orchestrator: a picture in, the influence of every training image out.

attributor = Attributor.load()
scores = attributor.attribute(picture, prompt="red apple")
scores.top(10)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .config import load_settings
from .embedders import Embedder, load_embedder
from .errors import IndexMismatch, UnsupportedModel
from .images import to_square
from .index.store import Index
from .methods import AttributionMethod
from .methods.forward_inf import ForwardInf
from .models import PictureModel, load_model
from .sweep import SweepProgress, sweep
from .types import InfluenceScores, LatentBatch, MirroredWeights, ModelSpec, Query, SweepLosses

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

DEFAULT_METHOD = ForwardInf()


@dataclass(frozen=True)
class AttributionProgress:
    """Where an attribution stands after a batch of its sweep."""

    done: int  # examples
    total: int
    rate: float  # examples per second
    seconds_left: float
    mirrored: MirroredWeights
    scores: Callable[[], InfluenceScores]  # of the training images swept so far


@dataclass(frozen=True)
class Attributor:
    """A model and the index of its training images; raises IndexMismatch where they do not belong together."""

    model: PictureModel
    index: Index
    embedder: Embedder | None = None  # None: the one that the index names, loaded when first asked for

    def __post_init__(self) -> None:
        self.index.require(self.model)

    @classmethod
    def load(cls, index: Path | None = None, spec: ModelSpec | None = None, tunable: str | None = None) -> Attributor:
        """An index with its model, by default those of the settings; a query moves the `tunable` weights.

        By default these are the weights the index was built for. Raises ForwardInfError saying what cannot be used.
        """
        opened = Index.open(index or load_settings().index)
        spec = spec or load_settings().model_spec()
        return cls(load_model(replace(spec, tunable=tunable or opened.info.tunable)), opened)

    def query(self, picture: Image, prompt: str = "", sha256: str | None = None) -> Query:
        """An RGB picture of any size, as the model sees it; `sha256` is that of its original bytes."""
        digest = sha256 or hashlib.sha256(picture.tobytes()).hexdigest()
        latents = self.model.encode_image([to_square(picture, self.model.picture_size)])
        return Query(f"query-{digest[:16]}", digest, prompt, latents, self.model.encode_prompt([prompt]))

    def mirror(self, query: Query, method: AttributionMethod) -> MirroredWeights:
        """The few gradient steps on the query."""
        return method.mirror(self.model, query, self.index.fisher())

    def sweep(self, mirrored: MirroredWeights, batch_size: int = 64) -> Iterator[SweepProgress]:
        """Every example's losses under the mirrored weights; closing the iterator restores the model and stops."""
        batches: Iterator[LatentBatch] = (shard.batch for shard in self.index.shards())
        with self.model.with_deltas(mirrored.deltas):
            yield from sweep(self.model, batches, self.index.info.plan, self.index.count, batch_size)

    def losses(self, swept: list[SweepProgress]) -> SweepLosses:
        """What has been swept so far, beside the base losses of the same examples."""
        ids = tuple(example_id for progress in swept for example_id in progress.example_ids)
        return SweepLosses(ids, self.index.base_losses[: len(ids)], torch.cat([progress.losses for progress in swept]))

    def similarities(self, picture: Image) -> Tensor:
        """How alike every indexed image looks to an RGB picture: cosines `[n]` in the index's order, at most 1.

        Not while a sweep is under way, as the model may be the one that looks. Raises IndexMismatch where the embedder
        is not the one that the index was made with, UnsupportedModel where that one cannot be loaded.
        """
        return self.index.neighbours.similarities(self._embedder.embed([picture])[0])

    def follow(
        self, query: Query, method: AttributionMethod = DEFAULT_METHOD
    ) -> Generator[AttributionProgress, None, None]:
        """The influence of the training images on a query, as it comes in; the last progress has the answer.

        Held-out images are swept too, as a reference, and are not among the scores. Closing the iterator restores the
        model and leaves nothing behind.
        """
        mirrored = self.mirror(query, method)
        swept: list[SweepProgress] = []

        def scores() -> InfluenceScores:
            return method.scores(self.losses(swept)).of(self.index.trained)

        for progress in self.sweep(mirrored):
            swept.append(progress)
            yield AttributionProgress(
                progress.done, progress.total, progress.rate, progress.seconds_left, mirrored, scores
            )

    def attribute(
        self,
        picture: Image,
        prompt: str = "",
        method: AttributionMethod = DEFAULT_METHOD,
        on_progress: Callable[[AttributionProgress], None] = lambda progress: None,
    ) -> InfluenceScores:
        """The influence of every training image on a picture, by `method`."""
        for progress in self.follow(self.query(picture, prompt), method):
            on_progress(progress)
        return progress.scores()

    @cached_property
    def _embedder(self) -> Embedder:
        info = self.index.info
        try:
            embedder = self.embedder or load_embedder(info.embedder, self.model)
        except UnsupportedModel as error:
            raise UnsupportedModel(
                f"“{self.index.folder.name}” was embedded with “{info.embedder}”, which is not at hand by that name. "
                "Give the Attributor the embedder loaded from its folder, or build the index again with unet."
            ) from error
        if embedder.fingerprint != info.embedder_fingerprint:
            raise IndexMismatch(
                f"“{self.index.folder.name}” was embedded with {info.embedder} ({info.embedder_fingerprint[:12]}…), "
                f"not with this {embedder.name} ({embedder.fingerprint[:12]}…). Use that one, or build the index again."
            )
        return embedder
