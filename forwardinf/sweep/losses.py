"""Losses and prediction sizes of a batch under the model as it is now, without gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..models.protocol import predicting
from ..types import Draws, LatentBatch

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel


@torch.inference_mode()
def losses(model: AttributableModel, batch: LatentBatch, draws: Draws) -> Tensor:
    """Losses `[b d]` in float32 on the CPU."""
    return model.loss(batch, draws).float().cpu()


@torch.inference_mode()
def losses_and_sizes(model: AttributableModel, batch: LatentBatch, draws: Draws) -> tuple[Tensor, Tensor]:
    """Losses and mean squares of the predictions, `[b d]` each, by one forward.

    Raises UnsupportedModel for a model without a prediction whose size can be measured.
    """
    loss, size = predicting(model).loss_and_size(batch, draws)
    return loss.float().cpu(), size.float().cpu()
