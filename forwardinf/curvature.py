"""How sharply the losses of training examples bend along each weight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from .draws import DrawPlan
from .types import LatentBatch

if TYPE_CHECKING:
    from torch import Tensor

    from .models import AttributableModel


def diagonal_fisher(model: AttributableModel, batches: Iterable[LatentBatch], plan: DrawPlan) -> dict[str, Tensor]:
    """Mean over examples and draws of the squared gradient of each loss, by weight.

    In float32 whatever the weights are, as squares underflow in float16.
    """
    tunable = model.tunable_parameters()
    total = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in tunable.items()}
    count = 0
    for batch in batches:
        draws = plan.draws(batch.example_ids, batch.latents.shape[1:])
        for loss in model.loss(batch, draws).flatten():
            gradients = torch.autograd.grad(loss, list(tunable.values()), retain_graph=True)
            for name, gradient in zip(tunable, gradients, strict=True):
                total[name] += gradient.float().square()
            count += 1
    return {name: squares / max(1, count) for name, squares in total.items()}
