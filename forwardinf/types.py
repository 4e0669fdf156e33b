"""The nouns of the project, frozen and cheap to pickle.

Axes, in the order in which they appear in shapes:
    b  batch: examples or pictures
    d  draw: one (timestep, noise) pair of an example
    t  token of a prompt
    c h w  channels, height, width of latents (or of pictures, where said)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class ModelSpec:
    """Which model, where from, and which of its weights a query may move."""

    checkpoint: str  # a folder, or a Hub id
    revision: str | None = None
    family: str | None = None  # a file of forwardinf/models; None: the one that reads what the checkpoint says it is
    dtype: str = "float32"
    device: str = "cpu"
    tunable: str = "all"  # or "attention", "cross-attention k,v", or a regular expression over parameter names


@dataclass(frozen=True)
class LatentBatch:
    """Examples as a model sees them; only the family that made it reads `conditioning`."""

    example_ids: tuple[str, ...]
    latents: Tensor  # [b c h w]; float16 out of an index, losses are float32 all the same
    conditioning: Tensor  # [b ...]; token ids [b t] for Stable Diffusion, of both text encoders [b 2 t] for SDXL


@dataclass(frozen=True)
class Draws:
    """The (timestep, noise) pairs at which a batch's losses are taken."""

    u: Tensor  # [b d], timestep quantiles in (0, 1)
    noise: Tensor  # [b d c h w], standard normal

    def part(self, examples: slice, draws: slice) -> Draws:
        return Draws(self.u[examples, draws], self.noise[examples, draws])


@dataclass(frozen=True)
class Query:
    """The picture whose training images are sought, as the model sees it."""

    id: str
    sha256: str  # of the picture's original bytes
    prompt: str  # as given; may be empty
    latents: Tensor  # [1 c h w]
    conditioning: Tensor  # [1 ...], of the prompt or of what stands for it
    picture: Image  # RGB, of any size
    borrowed: str | None = None  # the caption that stands for a prompt that was not given

    @property
    def prompted(self) -> bool:
        """Whether a prompt was given, which decides what an answer is compared with."""
        return self.borrowed is None

    def batch(self) -> LatentBatch:
        return LatentBatch((self.id,), self.latents, self.conditioning)


@dataclass(frozen=True)
class MirroredWeights:
    """Where a few gradient steps on a query moved the tunable weights, and what that did to the query's own loss."""

    query_id: str
    deltas: dict[str, Tensor]
    direction: int  # +1 ascent, -1 descent
    steps: int
    step_sizes: tuple[float, ...]  # factor of the (preconditioned) gradient, one per step
    loss_before: float
    loss_after: float
    draws: range | None = None  # of the index's plan, at which the sweep asks; None for all
    then: MirroredWeights | None = None  # with which the sweep goes over all images once more


@dataclass(frozen=True)
class SweepLosses:
    """What a sweep saw: each example's base losses, and what the method measured of it."""

    example_ids: tuple[str, ...]
    base: Tensor  # [n d] float32
    base_sizes: Tensor  # [n d] float32, mean squares of what the model predicts
    measured: Tensor  # [n ...] float32; for a mirrored method first of all the losses [n d] under the moved weights


def size_draws_of(settings: Mapping[str, Any], draws: int) -> int:
    """How many of so many draws, the last, a method of these settings asks for sizes: all but one at most.

    0 where the settings know of no sizes, as those of rivals and of earlier versions.
    """
    return min(int(settings.get("size_draws", 0)), draws - 1)


SIZE_NOISE = 0.2  # spread of a size between draw seeds by itself, on the lab's queries for choosing


@dataclass(frozen=True)
class InfluenceScores:
    """How strongly each example is estimated to have shaped a query; higher always means more influential."""

    example_ids: tuple[str, ...]
    scores: Tensor  # [n]
    standard_errors: Tensor  # [n]; not a number where a method has one figure for all draws, or a single error
    per_draw: Tensor  # [n d]; [n 1] where a method has one figure for all draws
    weights: Tensor | None = None  # [n], that all of these are still to be multiplied by; None for 1
    sized: int = 0  # of the draws, the last: they tell of sizes, whose square still is to be added, without weights
    left_out: Tensor | None = None  # [n d], the scores as they count with each draw left out; None over a single draw

    @classmethod
    def over(
        cls, example_ids: tuple[str, ...], per_draw: Tensor, weights: Tensor | None = None, sized: int = 0
    ) -> InfluenceScores:
        """Scores as means over draws, with their standard errors, from `per_draw [n d]`."""
        draws = per_draw.shape[1]
        errors = per_draw.std(dim=1) / draws**0.5 if draws > 1 else per_draw[:, 0] * float("nan")
        return cls(example_ids, per_draw.mean(dim=1), errors, per_draw, weights, sized)

    def weighted(self) -> InfluenceScores:
        """The scores as they count, with their weights on them, and sizes by the square of their mean.

        Also with each draw left out, which is what ranks are steady against.
        """
        if self.left_out is not None:  # they count as they are
            return self
        found = self._with_sizes() if self.sized else self._with_weights()
        return replace(found, left_out=self._without_each() if self.per_draw.shape[1] > 1 else None)

    def _with_weights(self) -> InfluenceScores:
        if self.weights is None:
            return self
        w = self.weights
        return InfluenceScores(self.example_ids, self.scores * w, self.standard_errors * w, self.per_draw * w[:, None])

    def _with_sizes(self) -> InfluenceScores:
        """What a draw counts is scaled so that the mean over all draws is the score, but for what is below 0.

        Errors have the standard error of their mean; a size, of which there may be but one, what is usual for it.
        """
        import torch

        draws, (errors, sizes) = self.per_draw.shape[1], self._parts()
        size = sizes.mean(dim=1, keepdim=True).clamp(min=0)
        shares = [errors * (draws / errors.shape[1]), sizes * size * (draws / self.sized)]
        erring, squared = InfluenceScores.over(self.example_ids, errors), size[:, 0].square()
        return InfluenceScores(
            self.example_ids,
            erring.scores.clamp(min=0) + squared,
            torch.hypot(erring.standard_errors, 2 * SIZE_NOISE * squared / self.sized**0.5),
            torch.cat(shares, dim=1),
        )

    def _without_each(self) -> Tensor:
        """The scores as they count without each draw, `[n d]`."""
        import torch

        errors, sizes = self._parts()
        if not self.sized:
            return _means_of_others(errors)
        erring = torch.cat([_means_of_others(errors), errors.mean(dim=1, keepdim=True).expand_as(sizes)], dim=1)
        sized = torch.cat([sizes.mean(dim=1, keepdim=True).expand_as(errors), _means_of_others(sizes)], dim=1)
        return erring.clamp(min=0) + sized.clamp(min=0).square()

    def _parts(self) -> tuple[Tensor, Tensor]:
        """What draws tell of errors, weighted, and of sizes: `[n d]` each, together all draws."""
        errors, sizes = self.per_draw.tensor_split((self.per_draw.shape[1] - self.sized,), dim=1)
        return errors if self.weights is None else errors * self.weights[:, None], sizes

    def of(self, example_ids: Collection[str]) -> InfluenceScores:
        """The scores of these examples alone, in the order they have here."""
        kept = [i for i, example_id in enumerate(self.example_ids) if example_id in example_ids]
        ids = tuple(self.example_ids[i] for i in kept)
        weights = None if self.weights is None else self.weights[kept]
        left_out = None if self.left_out is None else self.left_out[kept]
        return InfluenceScores(
            ids, self.scores[kept], self.standard_errors[kept], self.per_draw[kept], weights, self.sized, left_out
        )

    def top(self, k: int) -> list[tuple[str, float, float]]:
        """The `k` most influential examples: (id, score, standard error); ties in id order."""
        order = sorted(range(len(self.example_ids)), key=lambda i: (-float(self.scores[i]), self.example_ids[i]))[:k]
        return [(self.example_ids[i], float(self.scores[i]), float(self.standard_errors[i])) for i in order]

    def rank_of(self, example_id: str) -> int:
        """1 for the most influential; ties, and scores that are not a number, count against it."""
        own = self.scores[self.example_ids.index(example_id)]
        return int((~(self.scores < own)).sum())


def _means_of_others(values: Tensor) -> Tensor:
    """For each column of `[n d]` the mean of the others; 0 where there is none."""
    return (values.sum(dim=1, keepdim=True) - values) / max(1, values.shape[1] - 1)
