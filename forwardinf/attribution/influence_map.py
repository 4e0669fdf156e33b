"""Where in a training image, and where in the query, the influence sits: the change of the denoising error by place.

The score of a training image follows from how its loss rises under the weights that were moved for the query. A loss is
a mean over places, so the rise has a map. The other way round, the weights are moved for the training image, as if it
were the query, and the map is that of the query. Both are taken at draws of their own, more than a score takes, as a
map has less to average over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..draws import DrawPlan
from ..errors import InvalidRequest
from ..methods.protocol import AttributionMethod
from ..types import LatentBatch, Query

if TYPE_CHECKING:
    from torch import Tensor

    from .attributor import Attributor

DRAWS = 24


@dataclass(frozen=True)
class InfluenceMaps:
    """How far the squared error rises place by place, over the latents' positions; below 0 where it falls."""

    of_image: Tensor  # [h w], the training image's, under the weights moved for the query
    of_query: Tensor  # [h w], the query's, under the weights moved for the training image


def influence_maps(attributor: Attributor, query: Query, example_id: str, method: AttributionMethod) -> InfluenceMaps:
    """Two gradient steps, and 2 × 2 × DRAWS forwards; the model's weights are as before when this returns.

    Raises InvalidRequest for an id that the index does not have, and for a method that moves no weights.
    """
    index = attributor.index
    if example_id not in index.catalog.by_id:
        raise InvalidRequest(f"The index has no image “{example_id}”. Search for its id on the page Training set.")
    image, batch = index.catalog.by_id[example_id], index.examples([example_id]).float()
    asked = query.batch().float()
    mirrored = Query(
        example_id, image.sha256, image.caption, batch.latents, batch.conditioning, mirrored=batch.mirrored
    )
    return InfluenceMaps(
        _rise(attributor, batch, _move(attributor, query, method)),
        _rise(attributor, asked, _move(attributor, mirrored, method)),
    )


def _move(attributor: Attributor, query: Query, method: AttributionMethod) -> dict[str, Tensor]:
    """How the method moves the weights for a query's loss."""
    moves = [r.deltas for r in attributor.prepare(query, method).rounds if r.quantity == "loss" and r.deltas]
    if not moves:
        raise InvalidRequest(f"The method {method.method_name()} moves no weights, so its influence has no place.")
    return dict(moves[0])


@torch.no_grad()
def _rise(attributor: Attributor, batch: LatentBatch, deltas: dict[str, Tensor]) -> Tensor:
    model = attributor.model
    draws = DrawPlan(attributor.index.info.draw_seed + 1, DRAWS, shared=True).draws(
        batch.example_ids, batch.latents.shape[1:], model.spec.device
    )
    before = model.error_map(batch, draws)
    with model.with_deltas(deltas):
        after = model.error_map(batch, draws)
    return (after - before).mean(dim=(0, 1)).cpu()
