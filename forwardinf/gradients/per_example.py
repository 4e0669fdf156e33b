"""Gradients of examples one by one, for methods that need those of the training images, and how to keep them small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ..errors import OutOfMemory
from ..files.rows import RowCache
from ..models.protocol import LARGE, SavingMemory
from ..stopping import check, is_heeded
from ..sweep.parts import Parts
from ..types import Draws, LatentBatch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ..models.protocol import AttributableModel

LOSS_SCALE = 4096.0
# Latent positions at once: of a gradient four of 64 × 64, some 8 GB on Stable Diffusion 1.5, or one of 128 × 128.
POSITIONS, VALUE_POSITIONS = 2**14, 2**16
Objective = Callable[[LatentBatch, Draws], "Tensor"]  # [b d], differentiable in the tunable weights
Result = TypeVar("Result")


def weight_gradients(model: AttributableModel, value: Tensor) -> dict[str, Tensor]:
    """The gradient of a scalar by tunable weight, of each weight's shape; 0 for weights that it does not depend on.

    Of a model in float16 by way of a scaled loss: what flows back through float16 would underflow else (Micikevicius et
    al. 2018, arXiv 1710.03740, section 3.2).
    """
    tunable = model.tunable_parameters()
    half = model.spec.dtype == "float16"
    scaled = value * LOSS_SCALE if half else value
    parts = torch.autograd.grad(scaled, list(tunable.values()), materialize_grads=True)
    return {name: part / LOSS_SCALE if half else part for name, part in zip(tunable, parts, strict=True)}


def mean_gradient(
    model: AttributableModel, objective: Objective, batch: LatentBatch, draws: Draws
) -> tuple[float, dict[str, Tensor]]:
    """The mean of `objective` over a batch and its draws, and its gradient by tunable weight, of each weight's shape.

    Of as many draws or examples at a time as memory allows for, as each keeps all that a backward needs; where it does
    not suffice for one, with activations computed again on the way back. Raises OutOfMemory where that is too much too.
    Large latents are taken so on a CPU from the start.
    """
    if _large_on_cpu(model, batch) and isinstance(model, SavingMemory):
        model.save_memory()
    try:
        return _mean_gradient(model, objective, batch, draws)
    except OutOfMemory:
        if not (isinstance(model, SavingMemory) and model.save_memory()):
            raise
    return _mean_gradient(model, objective, batch, draws)


def gradient(model: AttributableModel, objective: Objective, batch: LatentBatch, draws: Draws) -> Tensor:
    """The gradient of `mean_gradient` with all tunable weights in a row, `[w]` in float32."""
    _, gradients = mean_gradient(model, objective, batch, draws)
    return torch.cat([gradient.flatten().float() for gradient in gradients.values()])


@torch.no_grad()
def mean_value(objective: Objective, batch: LatentBatch, draws: Draws) -> float:
    """The mean of `objective` over a batch and its draws, of as many at a time as memory allows for."""
    means = _in_parts(batch, draws, VALUE_POSITIONS, lambda *part: objective(*part).mean())
    return sum(float(mean) * share for share, mean in means)


def _mean_gradient(
    model: AttributableModel, objective: Objective, batch: LatentBatch, draws: Draws
) -> tuple[float, dict[str, Tensor]]:
    def of(*part: Any) -> tuple[float, dict[str, Tensor]]:  # noqa: ANN401
        with torch.enable_grad(), _stopping_on_the_way_back():
            mean = objective(*part).mean()
            return float(mean.detach()), weight_gradients(model, mean)

    value, total = 0.0, dict[str, "Tensor"]()
    for share, (mean, gradients) in _in_parts(batch, draws, 1 if _large_on_cpu(model, batch) else POSITIONS, of):
        value += mean * share
        for name, part in gradients.items():
            total[name] = total[name].add_(part, alpha=share) if name in total else part * share
    return value, total


def _large_on_cpu(model: AttributableModel, batch: LatentBatch) -> bool:
    return model.spec.device == "cpu" and batch.latents[0, 0].numel() >= LARGE


def _stopping_on_the_way_back() -> AbstractContextManager[Any]:
    """Where a stop is heeded, a backward looks for it with each tensor that the forward kept for it."""

    def taken(kept: Tensor) -> Tensor:
        check()
        return kept

    return torch.autograd.graph.saved_tensors_hooks(torch.Tensor.detach, taken) if is_heeded() else nullcontext()


def _in_parts(
    batch: LatentBatch, draws: Draws, limit: int, work: Callable[[LatentBatch, Draws], Result]
) -> Iterator[tuple[float, Result]]:
    """What `work` makes of parts of a batch, or of the draws of a single example, and each part's share of the whole.

    A part has at most `limit` latent positions, where it is more than one example or draw.
    """
    rows, count = draws.u.shape
    alone, every = rows == 1, slice(None)
    parts = Parts.within(limit, batch.latents[0, 0].numel() * (1 if alone else count))

    def on(part: slice) -> Result:
        check()
        if alone:
            return work(batch, draws.part(every, part))
        return work(batch.rows(part.start, part.stop), draws.part(part, every))

    whole = count if alone else rows
    for part, result in parts.over(whole, on):
        yield (part.stop - part.start) / whole, result


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
