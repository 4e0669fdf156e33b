"""Similarity: which images resemble the query, by the index's embedder or by the autoencoder's latents.

The baseline that every study of attribution has to be compared with (Wang et al., ICCV 2023, arXiv 2306.09345):
score(z) = cosine of the query's and the image's vectors. It knows nothing of what the model learned. Centred latents
are taken about the training images' mean, and a negative cosine counts as 0.

Cost: one embedding of the query, or nothing. Nothing on disk beside the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field

from ..errors import InvalidRequest
from ..scoring.likeness import likeness
from ..scoring.score import Changes
from ..sweep.rounds import Round
from ..sweep.table import Table
from ..types import Draws, LatentBatch, Query
from . import settings
from .protocol import TrainingSet, Unmoved

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel


Space = Annotated[
    Literal["embedder", "latents", "centred latents"],
    Field(description="what is compared: the index's embeddings, latents, or latents about the training set's mean"),
]


@dataclass(frozen=True)
class SimilarityState(Unmoved):
    latents: Tensor  # [1 c h w], the query's
    mean: Tensor  # [c h w], what latents are taken about
    cosines: dict[str, float]  # by example id; empty where latents are compared


class Similarity(settings.MethodSettings):
    """The method; its fields are its settings."""

    space: Space = "embedder"

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> SimilarityState:
        """The query's latents, or its cosine with every image; raises what the embedder raises.

        Raises InvalidRequest where the embedder is to compare a query that is no picture.
        """
        cosines: dict[str, float] = {}
        if self.space == "embedder":
            if query.picture is None:
                raise InvalidRequest("The query is no picture, so it cannot be embedded; try space=latents.")
            cosines = dict(zip(training_set.ids, training_set.similarities(query.picture).tolist(), strict=True))
        mean = training_set.mean_latents if self.space == "centred latents" else torch.zeros(query.latents.shape[1:])
        return SimilarityState(query.latents.cpu(), mean, cosines, rounds=(Round("similarity", (), one_figure=True),))

    def measure(
        self, model: AttributableModel, state: SimilarityState, one_round: Round, batch: LatentBatch, draws: Draws
    ) -> Tensor:
        """Cosines `[b 1]`."""
        if self.space == "embedder":
            return torch.tensor([[state.cosines[example_id]] for example_id in batch.example_ids])
        cosines = likeness(batch.latents.cpu(), state.latents, state.mean)
        return cosines.clamp(min=0) if self.space == "centred latents" else cosines

    def changes(self, state: SimilarityState, table: Table) -> Changes:
        """One figure for all draws of an example, so no standard error."""
        known = table.known("similarity")
        return Changes(known.example_ids, known["similarity"])


METHOD = Similarity
