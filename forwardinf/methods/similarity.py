"""Similarity: what looks alike, by the embedder that the index was made with, or by the autoencoder's latents.

The baseline that every study of attribution has to be compared with (Wang et al., ICCV 2023, arXiv 2306.09345):
score(z) = cosine of the query's and the image's vectors. It asks nothing of what the model learned.

Cost: one embedding of the query, or nothing. Nothing on disk beside the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn.functional import cosine_similarity

from ..draws import DrawPlan
from ..errors import InvalidRequest
from ..types import InfluenceScores, LatentBatch, Query, SweepLosses
from . import TrainingSet, Unmoved

if TYPE_CHECKING:
    from torch import Tensor

    from ..models import AttributableModel


@dataclass(frozen=True)
class SimilarityState(Unmoved):
    latents: Tensor  # [1 chw], the query's
    cosines: dict[str, float]  # by example id; empty where latents are compared


@dataclass(frozen=True)
class Similarity:
    """Settings of the method; raises InvalidRequest where one is out of range."""

    space: Literal["embedder", "latents"] = "embedder"

    def __post_init__(self) -> None:
        if self.space not in ("embedder", "latents"):
            raise InvalidRequest(f"The space is “{self.space}”; it must be embedder or latents.")

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> SimilarityState:
        """The query's latents, or its cosine with every image; raises what the embedder raises."""
        cosines: dict[str, float] = {}
        if self.space == "embedder":
            cosines = dict(zip(training_set.ids, training_set.similarities(query.picture).tolist(), strict=True))
        return SimilarityState(query.latents.flatten(1).float().cpu(), cosines)

    def measure(self, model: AttributableModel, state: SimilarityState, batch: LatentBatch, plan: DrawPlan) -> Tensor:
        """Cosines `[b 1]`."""
        if self.space == "embedder":
            return torch.tensor([[state.cosines[example_id]] for example_id in batch.example_ids])
        return cosine_similarity(batch.latents.flatten(1).float().cpu(), state.latents, dim=1)[:, None]

    def scores(self, state: SimilarityState, losses: SweepLosses) -> InfluenceScores:
        """One figure for all draws of an example, so no standard error."""
        return InfluenceScores.over(losses.example_ids, losses.measured)


METHOD = Similarity
