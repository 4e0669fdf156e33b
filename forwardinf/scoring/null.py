"""What is usual for an image: how it scores under pictures that owe it nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ..types import InfluenceScores

if TYPE_CHECKING:
    from torch import Tensor

SHARED = 2  # times the average image's spread that are added to each; less finds more, more adds up better (LDS)
FEWEST = 3  # reference pictures that tell a habit: without any one of them a spread is still defined


@dataclass(frozen=True)
class Habit:
    """How images score under pictures that owe them nothing: each image's own null."""

    positions: dict[str, int]  # of example ids in what follows
    mean: Tensor  # [n d]
    spread: Tensor  # [n d]

    @classmethod
    def of(cls, example_ids: Sequence[str], reference: Tensor) -> Habit:
        """The habit that scores `[b n d]` under b ≥ 2 reference pictures show.

        Few pictures tell a spread badly, and an image that hardly moved under any of them must not stand out because it
        now moved a little: so `SHARED` times the average image's spread is added to each.
        """
        own = reference.std(dim=0)
        positions = {example_id: i for i, example_id in enumerate(example_ids)}
        return cls(positions, reference.mean(dim=0), own + SHARED * own.mean(dim=0))

    def beyond(self, scores: InfluenceScores) -> InfluenceScores:
        """By how many spreads each image is beyond its habit; one that is not has 0, and by how much in `per_draw`."""
        rows = [self.positions[example_id] for example_id in scores.example_ids]
        known = slice(scores.per_draw.shape[1])  # of the draws, those that have been asked so far
        moved = (scores.per_draw - self.mean[rows, known]) / self.spread[rows, known]
        found = InfluenceScores.over(scores.example_ids, moved, scores.weights, scores.sized)
        return replace(found, scores=found.scores.clamp(min=0))


def highest(reference: Tensor, weights: Tensor, among: Tensor, asked: Tensor | None = None, sized: int = 0) -> Tensor:
    """The highest score under each reference picture, `[b]`.

    From their scores at each draw `[b n d]`, the last `sized` draws of sizes, what these are multiplied by `[b n]`, and
    a mask `[n]` of what counts; or from the scores that the same pictures have when they are `asked` otherwise, with
    the weights of these. Beyond the habit that the other reference pictures show, where there are enough for one. It
    rests on one picture fewer than the habit a query is held against, so these spread a little more, which errs on the
    side of not calling.
    """
    ids = tuple(map(str, range(reference.shape[1])))
    reached = []
    for number, (per_draw, weight) in enumerate(zip(reference if asked is None else asked, weights, strict=True)):
        scores = InfluenceScores.over(ids, per_draw, weight, sized)
        if len(reference) >= FEWEST:
            others = torch.cat([reference[:number], reference[number + 1 :]])
            scores = Habit.of(ids, others).beyond(scores)
        reached.append(scores.weighted().scores[among].max())
    return torch.stack(reached)
