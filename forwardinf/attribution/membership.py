"""Errors of images trained on and of held-out ones, with the model's adapter on and off, from pictures or an index."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..draws import DrawPlan
from ..errors import InvalidRequest
from ..examples.belonging import AGREES, DIFFERS, NOT_STATED, Comparison
from ..examples.catalog import Catalog
from ..index.finite import require_finite
from ..models.protocol import CaptionedPicture, adapted
from ..scoring.membership import FEWEST, Errors, Membership, Separation, membership
from ..sweep.executors.threads import measured_by_batch
from ..sweep.losses import losses

if TYPE_CHECKING:
    import torch

    from ..index.store import Index
    from ..models.protocol import PictureModel
    from ..types import LatentBatch

PLAN = DrawPlan(seed=0, count=16, shared=True)
MOST = 200  # images of either kind; of more, as many at random
AT_ONCE = 32  # pictures that are decoded and encoded together
OnProgress = Callable[[int, int], None]


def membership_of(
    model: PictureModel,
    trained: Catalog,
    held_out: Catalog,
    plan: DrawPlan = PLAN,
    on_progress: OnProgress = lambda done, total: None,
) -> Membership:
    """Whether the images of `trained` behave as trained on, beside those of `held_out`.

    Raises InvalidRequest for too few images of either, and what reading a picture raises.
    """
    both = [_some(images, plan.seed) for images in (trained, held_out)]
    total, done, found = sum(len(images.images) for images in both), 0, list[Errors]()
    on_progress(0, total)
    for images in both:
        parts = list[Errors]()
        for start in range(0, len(images.images), AT_ONCE):
            parts.append(_errors(model, images, slice(start, start + AT_ONCE), plan))
            done += len(parts[-1].with_adapter)
            on_progress(done, total)
        found.append(_joined(parts))
    return membership(*found)


def membership_in(index: Index) -> Membership | None:
    """The same from the losses that an index keeps, at its few draws; None where it has too few images held out."""
    trained = index.trained_mask
    if min(int(trained.sum()), int((~trained).sum())) < FEWEST:
        return None
    on, off = index.base_losses, index.unadapted_losses
    kinds = (Errors(on[rows], None if off is None else off[rows]) for rows in (trained, ~trained))
    return membership(*kinds)


def in_words(found: Membership) -> Comparison:
    """As one line of what was compared."""
    sure = found.decisive
    kinds = f"{found.trained:,} images against {found.held_out:,} held out"
    by = "more of their error was taken away by the adapter" if found.learned else "their error is lower"
    told = f"{by}: AUC {_auc(sure)}, {kinds}"
    if found.lower_without:
        told += f"; by their error alone {_auc(found.lower)}, without the adapter {_auc(found.lower_without)}"
    if sure.low > 0.5:
        return Comparison("errors", AGREES, f"they behave as trained on: {told}")
    if sure.high < 0.5:
        return Comparison("errors", DIFFERS, f"held-out pictures behave more as trained on: {told}")
    return Comparison("errors", NOT_STATED, f"no sign that they were trained on: {told}")


def _auc(found: Separation) -> str:
    return f"{found.auc:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _some(images: Catalog, seed: int) -> Catalog:
    if len(images.images) < FEWEST:
        raise InvalidRequest(
            f"“{images.folder.name}” has {len(images.images)} pictures for this; to compare errors takes {FEWEST}."
        )
    if len(images.images) <= MOST:
        return images
    chosen = sorted(random.Random(seed).sample(range(len(images.images)), MOST))
    return replace(images, images=tuple(images.images[n] for n in chosen))


def _errors(model: PictureModel, images: Catalog, part: slice, plan: DrawPlan) -> Errors:
    seen = [CaptionedPicture(image.id, images.picture(image), image.caption) for image in images.images[part]]
    batch = model.encode(seen)
    on, with_adapter = _losses(model, batch, plan), adapted(model)
    if with_adapter is None:
        return Errors(on)
    with with_adapter.without_adapter():
        return Errors(on, _losses(model, batch, plan))


def _losses(model: PictureModel, batch: LatentBatch, plan: DrawPlan) -> torch.Tensor:
    import torch

    def measure(part: LatentBatch) -> torch.Tensor:
        return losses(model, part, plan.draws(part.example_ids, part.latents.shape[1:], model.spec.device))

    found = torch.cat([values for _, values in measured_by_batch(model, [batch], plan.count, measure)])
    require_finite(found, batch.example_ids, "The loss of", by_draw=True)
    return found


def _joined(parts: list[Errors]) -> Errors:
    import torch

    off = [part.without for part in parts if part.without is not None]
    return Errors(torch.cat([part.with_adapter for part in parts]), torch.cat(off) if off else None)
