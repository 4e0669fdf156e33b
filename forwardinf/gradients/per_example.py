"""Gradients of examples one by one, for methods that need those of the training images, and how to keep them small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from ..files.rows import RowCache
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

    Of a model in float16 by way of a scaled loss: what flows back through float16 would underflow else (Micikevicius et
    al. 2018, arXiv 1710.03740, section 3.2).
    """
    tunable = model.tunable_parameters()
    half = model.spec.dtype == "float16"
    parts = torch.autograd.grad(value * LOSS_SCALE if half else value, list(tunable.values()))
    return {name: part / LOSS_SCALE if half else part for name, part in zip(tunable, parts, strict=True)}


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
        flat = torch.cat([gradient.flatten().float() for gradient in gradients.values()])
        total = flat if count <= at_once else total + flat * (part.u.shape[1] / count)
    return total


def by_example(batch: LatentBatch, draws: Draws) -> Iterator[tuple[LatentBatch, Draws]]:
    """Each example by itself with all its draws."""
    for i in range(len(batch.example_ids)):
        yield batch.rows(i, i + 1), draws.part(slice(i, i + 1), slice(None))


def by_draw(batch: LatentBatch, draws: Draws) -> Iterator[tuple[LatentBatch, Draws]]:
    """Each draw of each example by itself, the draws of the first example first."""
    for example, its_draws in by_example(batch, draws):
        for k in range(its_draws.u.shape[1]):
            yield example, its_draws.part(slice(None), slice(k, k + 1))


@dataclass(frozen=True)
class KeptByExample:
    """Figures of single examples that are the same for every query, on disk where there is a file for them."""

    path: Path | None
    ids: tuple[str, ...]  # of all examples, in the order of the file's rows
    width: int  # figures of each example

    def measured(self, batch: LatentBatch, draws: Draws, measure: Callable[[LatentBatch, Draws], Tensor]) -> Tensor:
        """Of each example of a batch, `[b width]` in float32: what is kept, or else what `measure` says of it alone.

        Raises DamagedAsset where figures of another shape are kept at `path`.
        """
        file = _opened(self.path, len(self.ids), self.width) if self.path else None
        rows = _rows(self.ids)
        figures = torch.empty(len(batch.example_ids), self.width)
        for figure, (example, its_draws) in zip(figures, by_example(batch, draws), strict=True):
            row = rows[example.example_ids[0]]
            kept = file.get(row) if file else None
            if kept is not None:
                figure.copy_(torch.from_numpy(kept))
                continue
            figure.copy_(measure(example, its_draws))
            if file:
                file.put(row, figure.numpy())
        return figures


@lru_cache(maxsize=4)
def _opened(path: Path, count: int, width: int) -> RowCache:
    return RowCache.open(path, count, width)


@lru_cache(maxsize=4)
def _rows(ids: tuple[str, ...]) -> dict[str, int]:
    return {example_id: row for row, example_id in enumerate(ids)}
