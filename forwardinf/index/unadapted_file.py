"""The losses of an index's images under the base model, with the adapter left out: what the adapter learned of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..files.atomic import write_bytes
from ..files.manifest import Manifest
from .finite import require_finite

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AdaptedModel
    from ..types import LatentBatch
    from .store import Index

UNADAPTED = "unadapted.safetensors"


def read_unadapted(manifest: Manifest) -> Tensor | None:
    """`[n d]` at the draws of the base losses; None where the model has no adapter. Raises DamagedAsset."""
    from safetensors.torch import load

    return load(manifest.read_bytes(UNADAPTED))["losses"] if UNADAPTED in manifest.files else None


def write_unadapted(
    model: AdaptedModel, index: Index, on_progress: Callable[[int, int], None], known: Tensor | None = None
) -> None:
    """Measure and keep them, from the stored latents, but those `known [n d]` of the first n images.

    Raises NonFinite naming an image whose loss is no number.
    """
    import torch
    from safetensors.torch import save

    from ..sweep.executors.threads import measured_by_batch
    from ..sweep.losses import losses

    plan, found = index.info.plan, [] if known is None else [known]
    rest = index.part(image.id for image in index.catalog.images[sum(map(len, found)) :])

    def measure(part: LatentBatch) -> Tensor:
        return losses(model, part, plan.draws(part.example_ids, part.latents.shape[1:], model.spec.device))

    on_progress(0, index.count)
    with model.without_adapter():
        for _, values in measured_by_batch(model, (shard.batch for shard in rest.shards()), plan.count, measure):
            found.append(values)
            on_progress(sum(map(len, found)), index.count)
    measured = torch.cat(found)
    require_finite(measured, index.visited, "Without the adapter, the loss of", by_draw=True)
    write_bytes(index.folder / UNADAPTED, save({"losses": measured.contiguous()}))
