"""Turn-over dropout: half of a network for each example, so that the other half tells what it would be without it.

Kobayashi et al. 2020 (arXiv 2012.04207): every example has a mask of its own over hidden units, the same whenever it is
trained on; under the turned-over mask is a network that never saw it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import Linear
from torch.nn.functional import cross_entropy

from .labelled import Labelled
from .networks import trained_in_batches

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Sequential


def masks(count: int, units: int, seed: int) -> Tensor:
    """`[count units]` of 0 and 1, half of each row 1."""
    order = torch.rand(count, units, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    return (order < units // 2).float()


def turned_over_losses(network: Sequential, examples: Labelled, epochs: int, seed: int) -> Tensor:
    """Train with each example's mask on what enters the last layer; the losses `[n]` under the turned-over masks."""
    body, last = network[:-1], network[-1]
    assert isinstance(last, Linear), "the masks are on what enters a linear layer"
    kept = masks(examples.count, last.in_features, seed)

    def forward(rows: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = last(body(examples.pictures[rows]) * mask[rows] * 2)
        return logits

    trained_in_batches(network, examples, epochs, seed, forward=lambda rows: forward(rows, kept))
    every = torch.arange(examples.count)
    with torch.inference_mode():
        return cross_entropy(forward(every, 1 - kept), examples.labels, reduction="none")
