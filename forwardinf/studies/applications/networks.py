"""Networks for small pictures: a smooth one that is trained on all examples at once, and a residual one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Identity,
    Linear,
    Module,
    ReLU,
    Sequential,
    SiLU,
)
from torch.nn.functional import cross_entropy, relu

from .labelled import Labelled

if TYPE_CHECKING:
    from torch import Tensor

CHANNELS = 6
BATCH = 100
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 0.01


def small_network(examples: Labelled, seed: int) -> Sequential:
    """Two convolutions and a linear layer; smooth, so that a small change of the examples stays one."""
    _, channels, side, _ = examples.pictures.shape
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Sequential(
            Conv2d(channels, CHANNELS, 3, stride=2, padding=1),
            SiLU(),
            Conv2d(CHANNELS, 2 * CHANNELS, 3, padding=1),
            SiLU(),
            Flatten(),
            Linear(2 * CHANNELS * (side // 2) ** 2, int(examples.labels.max()) + 1),
        )


class Block(Module):
    """A basic block of He et al. 2016 (arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = Sequential(
            Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            BatchNorm2d(outputs),
            ReLU(),
            Conv2d(outputs, outputs, 3, padding=1, bias=False),
            BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        short = Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        self.short = Identity() if same else Sequential(short, BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.body(x) + self.short(x))


def residual_network(examples: Labelled, seed: int, width: int) -> Sequential:
    """Shaped as ResNet-18, two blocks in each of four stages, for small pictures."""
    channels, classes = examples.pictures.shape[1], int(examples.labels.max()) + 1
    widths = [width, width, 2 * width, 4 * width, 8 * width]
    strides = (1, 1, 2, 2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        stages = [
            Sequential(Block(before, after, stride), Block(after, after, 1))
            for before, after, stride in zip(widths, widths[1:], strides, strict=False)
        ]
        stem = (Conv2d(channels, width, 3, stride=2, padding=1, bias=False), BatchNorm2d(width), ReLU())
        return Sequential(*stem, *stages, AdaptiveAvgPool2d(1), Flatten(), Linear(widths[-1], classes))


def trained_in_batches(
    network: Sequential,
    examples: Labelled,
    epochs: int,
    seed: int,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Sequential:
    """A network trained by Adam with a falling rate, in an order that the seed decides; in evaluation mode.

    `forward` gives the logits of the examples in these rows; by default those of the network.
    """
    logits = forward or (lambda rows: network(examples.pictures[rows]))
    count, stream = examples.count, torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(count, generator=stream).split(BATCH):
            optimiser.zero_grad()
            cross_entropy(logits(rows), examples.labels[rows]).backward()
            optimiser.step()
        schedule.step()
    return network.eval()


def trained_network(examples: Labelled, weights: Tensor, count: int, steps: int, seed: int) -> Module:
    """A network trained to lower the sum of the losses, each by its weight `[n]`, over `count`; in evaluation mode."""
    network = small_network(examples, seed)
    optimiser = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = cross_entropy(network(examples.pictures), examples.labels, reduction="none")
        ((loss * weights).sum() / count).backward()
        optimiser.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def losses_of(network: Module, examples: Labelled) -> Tensor:
    """`[n]`."""
    return cross_entropy(network(examples.pictures), examples.labels, reduction="none")
