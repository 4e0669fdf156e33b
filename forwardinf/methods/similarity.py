"""Similarity: what looks alike, by the embedder that the index was made with, or by the autoencoder's latents.

The baseline that every study of attribution has to be compared with (Wang et al., ICCV 2023, arXiv 2306.09345):
score(z) = cosine of the query's and the image's vectors. It asks nothing of what the model learned. Centred latents are
taken about the training images' mean, and an image that then points away from the query counts as none.

Cost: one embedding of the query, or nothing. Nothing on disk beside the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from ..draws import DrawPlan
from ..errors import InvalidRequest
from ..scoring.likeness import likeness
from ..types import InfluenceScores, LatentBatch, Query, SweepLosses
from .protocol import TrainingSet, Unmoved

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel


@dataclass(frozen=True)
class SimilarityState(Unmoved):
    latents: Tensor  # [1 c h w], the query's
    mean: Tensor  # [c h w], what latents are taken about
    cosines: dict[str, float]  # by example id; empty where latents are compared


@dataclass(frozen=True)
class Similarity:
    """Settings of the method; raises InvalidRequest where one is out of range."""

    space: Literal["embedder", "latents", "centred latents"] = "embedder"

    def __post_init__(self) -> None:
        if self.space not in ("embedder", "latents", "centred latents"):
            raise InvalidRequest(f"The space is “{self.space}”; it must be embedder, latents or centred latents.")

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> SimilarityState:
        """The query's latents, or its cosine with every image; raises what the embedder raises."""
        cosines: dict[str, float] = {}
        if self.space == "embedder":
            cosines = dict(zip(training_set.ids, training_set.similarities(query.picture).tolist(), strict=True))
        mean = training_set.mean_latents if self.space == "centred latents" else torch.zeros(query.latents.shape[1:])
        return SimilarityState(query.latents.cpu(), mean, cosines)

    def measure(self, model: AttributableModel, state: SimilarityState, batch: LatentBatch, plan: DrawPlan) -> Tensor:
        """Cosines `[b 1]`."""
        if self.space == "embedder":
            return torch.tensor([[state.cosines[example_id]] for example_id in batch.example_ids])
        cosines = likeness(batch.latents.cpu(), state.latents, state.mean)
        return cosines.clamp(min=0) if self.space == "centred latents" else cosines

    def scores(self, state: SimilarityState, losses: SweepLosses) -> InfluenceScores:
        """One figure for all draws of an example, so no standard error."""
        return InfluenceScores.over(losses.example_ids, losses.measured)


METHOD = Similarity
