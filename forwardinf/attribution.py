"""The orchestrator: a picture in, the influence of every training image out.

attributor = Attributor.load(Path("my-index"))
scores = attributor.attribute(picture, prompt="red apple")
scores.top(10)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .images import to_square
from .index.store import Index
from .methods import AttributionMethod
from .methods.forward_inf import ForwardInf
from .models import PictureModel, load_model
from .sweep import SweepProgress, sweep
from .types import InfluenceScores, LatentBatch, MirroredWeights, ModelSpec, Query, SweepLosses

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_METHOD = ForwardInf()


@dataclass(frozen=True)
class Attributor:
    """A model and the index of its training images; raises IndexMismatch where they do not belong together."""

    model: PictureModel
    index: Index

    def __post_init__(self) -> None:
        self.index.require(self.model)

    @classmethod
    def load(cls, index: Path, spec: ModelSpec) -> Attributor:
        return cls(load_model(spec), Index.open(index))

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
        base = torch.cat([shard.base_losses for shard in self.index.shards()])[: len(ids)]
        return SweepLosses(ids, base, torch.cat([progress.losses for progress in swept]))

    def attribute(
        self,
        picture: Image,
        prompt: str = "",
        method: AttributionMethod = DEFAULT_METHOD,
        on_progress: Callable[[SweepProgress], None] = lambda progress: None,
    ) -> InfluenceScores:
        """The influence of every indexed image on a picture, by `method`."""
        mirrored = self.mirror(self.query(picture, prompt), method)
        swept: list[SweepProgress] = []
        for progress in self.sweep(mirrored):
            swept.append(progress)
            on_progress(progress)
        return method.scores(self.losses(swept))
