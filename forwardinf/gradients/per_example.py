"""Gradients of examples one by one, for methods that need those of the training images, and how to keep them small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..draws import DrawPlan
from ..files.rows import RowCache
from ..sweep.sweep import part_of
from ..types import Draws, LatentBatch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ..models.protocol import AttributableModel

LOSS_SCALE = 4096.0
POSITIONS = 1 << 14  # of latents whose gradient is taken at once: four of 64 × 64, some 8 GB on Stable Diffusion 1.5
Objective = Callable[[LatentBatch, Draws], "Tensor"]  # [b d], differentiable in the tunable weights


def weight_gradients(model: AttributableModel, value: Tensor) -> dict[str, Tensor]:
    """The gradient of a scalar by tunable weight, of each weight's shape.

    Of float16 weights in float32, by way of a scaled loss: what flows back through float16 would underflow else
    (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2).
    """
    tunable = model.tunable_parameters()
    half = any(weight.dtype == torch.float16 for weight in tunable.values())
    parts = torch.autograd.grad(value * LOSS_SCALE if half else value, list(tunable.values()))
    return {name: part.float() / LOSS_SCALE if half else part for name, part in zip(tunable, parts, strict=True)}


def gradient(model: AttributableModel, objective: Objective, batch: LatentBatch, draws: Draws) -> Tensor:
    """Gradient `[w]` of the mean of `objective` over a batch and its draws, all tunable weights in a row, float32.

    Of as many draws at a time as memory allows for, as each keeps all that a backward needs.
    """
    count = draws.u.shape[1]
    at_once = max(1, POSITIONS // batch.latents[:, 0].numel())
    total = torch.zeros(())
    for start in range(0, count, at_once):
        part = draws.part(slice(None), slice(start, start + at_once))
        with torch.enable_grad():
            gradients = weight_gradients(model, objective(batch, part).mean())
        own = torch.cat([gradient.flatten().float() for gradient in gradients.values()])
        total = own if count <= at_once else total + own * (part.u.shape[1] / count)
    return total


def by_example(batch: LatentBatch, draws: Draws) -> Iterator[tuple[LatentBatch, Draws]]:
    """Each example by itself with all its draws."""
    for i in range(len(batch.example_ids)):
        yield part_of(batch, i, i + 1), draws.part(slice(i, i + 1), slice(None))


def by_draw(batch: LatentBatch, draws: Draws) -> Iterator[tuple[LatentBatch, Draws]]:
    """Each draw of each example by itself, the draws of the first example first."""
    for example, its in by_example(batch, draws):
        for k in range(its.u.shape[1]):
            yield example, its.part(slice(None), slice(k, k + 1))


@dataclass(frozen=True)
class KeptByExample:
    """Figures of single examples that are the same for every query, on disk where there is a file for them."""

    width: int  # figures of each example
    rows: dict[str, int]  # of the file, by example id
    file: RowCache | None

    @classmethod
    def of(cls, path: Path | None, ids: Sequence[str], width: int) -> KeptByExample:
        """Raises DamagedAsset where another shape is kept at `path`."""
        file = RowCache.open(path, len(ids), width) if path else None
        return cls(width, {example_id: row for row, example_id in enumerate(ids)}, file)

    def measured(self, batch: LatentBatch, plan: DrawPlan, measure: Callable[[LatentBatch, Draws], Tensor]) -> Tensor:
        """Of each example of a batch, `[b width]` in float32: what is kept, or else what `measure` says of it alone."""
        draws = plan.draws(batch.example_ids, batch.latents.shape[1:])
        figures = torch.empty(len(batch.example_ids), self.width)
        for own, (example, its) in zip(figures, by_example(batch, draws), strict=True):
            row = self.rows[example.example_ids[0]]
            kept = self.file.get(row) if self.file else None
            if kept is not None:
                own.copy_(torch.from_numpy(kept))
                continue
            own.copy_(measure(example, its))
            if self.file:
                self.file.put(row, own.numpy())
        return figures
