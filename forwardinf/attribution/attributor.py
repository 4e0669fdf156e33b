"""The orchestrator: a picture in, the influence of every training image out.

attributor = Attributor.load()
scores = attributor.attribute(picture, prompt="red apple")
scores.top(10)
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config import load_settings
from ..draws import DrawPlan
from ..embedders.protocol import Embedder
from ..embedders.registry import load_embedder
from ..errors import IndexMismatch, UnsupportedModel
from ..examples.catalog import TrainingImage
from ..examples.decoding import to_square
from ..index.null_file import Reference
from ..index.store import Index
from ..methods.forward_inf import ForwardInf
from ..methods.protocol import AttributionMethod, QueryState
from ..methods.registry import settings_of
from ..models.protocol import AttributableModel, PictureModel
from ..models.registry import load_model
from ..scoring.confidence import Confidence, p_values, rank_ranges
from ..scoring.null import FEWEST, Habit, highest
from ..sweep.sweep import SweepProgress, sweep
from ..types import InfluenceScores, LatentBatch, ModelSpec, Query, SweepLosses

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..gradients.curvature import WeightCurvature

DEFAULT_METHOD = ForwardInf()


@dataclass(frozen=True)
class AttributionProgress:
    """Where an attribution stands after a batch of its sweep."""

    done: int  # examples
    total: int
    rate: float  # examples per second
    seconds_left: float
    state: QueryState  # the moved weights, of a mirrored method
    raw_scores: Callable[[], InfluenceScores]  # the same as the method has them: not held against habits, not weighted
    habit: Habit | None  # None where the index does not know what is usual for its images by this method
    trained: frozenset[str]

    def all_scores(self) -> InfluenceScores:
        """Of the images swept so far, those held out too; beyond what is usual for each, where that is known."""
        raw = self.raw_scores()
        return (self.habit.beyond(raw) if self.habit else raw).weighted()

    def scores(self) -> InfluenceScores:
        """Of the training images swept so far."""
        return self.all_scores().of(self.trained)


@dataclass(frozen=True)
class IndexedImages:
    """The TrainingSet that methods see: all of an index, also where a sweep visits only a part of it."""

    index: Index
    cache: Path | None
    similarities: Callable[[Image], Tensor]

    @property
    def fingerprint(self) -> str:
        return self.index.measured_fingerprint

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(image.id for image in self.index.catalog.images)

    @property
    def trained(self) -> frozenset[str]:
        return self.index.trained

    @property
    def plan(self) -> DrawPlan:
        return self.index.info.plan

    @property
    def mean_latents(self) -> Tensor:
        return self.index.mean_latents

    def fisher(self) -> dict[str, Tensor]:
        return self.index.fisher()

    def kronecker(self) -> dict[str, WeightCurvature]:
        return self.index.kronecker()

    def examples(self, example_ids: Iterable[str]) -> LatentBatch:
        parts = [shard.batch for shard in self.index.part(example_ids).shards()]
        ids = tuple(example_id for part in parts for example_id in part.example_ids)
        latents, conditioning = torch.cat([p.latents for p in parts]), torch.cat([p.conditioning for p in parts])
        return LatentBatch(ids, latents, conditioning)


@dataclass(frozen=True)
class Attributor:
    """A model and the index of its training images; raises IndexMismatch where they do not belong together."""

    model: PictureModel
    index: Index
    embedder: Embedder | None = None  # None: the one that the index names, loaded when first asked for
    cache: Path | None = None  # a folder for what some methods compute once for all queries; None computes it each time
    habits: bool = True  # score images beyond what is usual for each, where the index knows that

    def __post_init__(self) -> None:
        self.index.require(self.model)

    @classmethod
    def load(
        cls,
        index: Path | Index | None = None,
        spec: ModelSpec | None = None,
        tunable: str | None = None,
        cache: Path | None = None,
        embedder: str | None = None,
    ) -> Attributor:
        """An index with its model, by default those of the settings; a query moves the `tunable` weights.

        By default these are the weights the index was built for. `embedder` says where that is which the index was
        made with, if the name that the index has for it does not. Raises ForwardInfError saying what cannot be used.
        """
        opened = index if isinstance(index, Index) else Index.open(index or load_settings().index)
        spec = spec or load_settings().model_spec()
        model = load_model(replace(spec, tunable=tunable or opened.info.tunable))
        return cls(model, opened, load_embedder(embedder, model) if embedder else None, cache)

    def query(self, picture: Image, prompt: str = "", sha256: str | None = None) -> Query:
        """An RGB picture of any size, as the model sees it; `sha256` is that of its original bytes.

        Where there is no prompt, the caption of the training image that looks most like the picture stands for one.
        Every training image is asked with its caption, as it was trained; a step under an empty prompt moves other
        weights than those that hold an image under its caption, and finds a fraction even of the very image.
        """
        digest = sha256 or hashlib.sha256(picture.tobytes()).hexdigest()
        latents = self.model.encode_image([to_square(picture, self.model.picture_size)])
        borrowed = None if prompt.strip() else self._nearest(picture).caption
        conditioning = self.model.encode_prompt([prompt if borrowed is None else borrowed])
        return Query(f"query-{digest[:16]}", digest, prompt, latents, conditioning, picture, borrowed)

    def mirror(self, query: Query, method: AttributionMethod) -> QueryState:
        """What `method` does once for a query; for a mirrored method the few gradient steps on it."""
        return method.prepare(self.model, query, IndexedImages(self.index, self.cache, self.similarities))

    def sweep(
        self, state: QueryState, batch_size: int | None = None, method: AttributionMethod = DEFAULT_METHOD
    ) -> Iterator[SweepProgress]:
        """What `method` measures of every example, under the weights that `state`, its own, moves; by default losses.

        Closing the iterator restores the model and stops.
        """

        start, total, plan = time.perf_counter(), self.index.count, self.index.info.plan
        planned = list(rounds(state, plan))
        forwards, before = sum(len(taken.taken) for _, taken in planned), 0
        for own, taken in planned:
            measure = partial(_measured, method, own)
            batches = (shard.batch for shard in self.index.shards())
            with self.model.with_deltas(own.deltas):
                for now in sweep(self.model, batches, taken, total, batch_size, measure):
                    share = (before + len(taken.taken) * now.done / total) / forwards
                    seconds = max(time.perf_counter() - start, 1e-9)
                    yield replace(now, done=round(share * total), rate=share * total / seconds,
                                  seconds_left=seconds * (1 - share) / share)  # fmt: skip
            before += len(taken.taken)

    def losses(self, swept: list[SweepProgress]) -> SweepLosses:
        """What has been swept so far, beside the base losses of the same examples.

        Where the sweep goes over them more than once, what it measured in each round that is over lies side by side.
        """
        over = _by_round(swept, self.index.count)
        ids = tuple(example_id for progress in over[0] for example_id in progress.example_ids)
        measured = torch.cat([torch.cat([p.measured for p in own]) for own in over], dim=1)
        return SweepLosses(ids, self.index.base_losses[: len(ids)], self.index.base_sizes[: len(ids)], measured)

    def similarities(self, picture: Image) -> Tensor:
        """How alike every indexed image looks to an RGB picture: cosines `[n]` in the index's order, at most 1.

        Not while a sweep is under way, as the model may be the one that looks. Raises IndexMismatch where the embedder
        is not the one that the index was made with, UnsupportedModel where that one cannot be loaded.
        """
        return self.index.neighbours.similarities(self._embedder.embed([picture])[0])

    def follow(
        self, query: Query, method: AttributionMethod = DEFAULT_METHOD
    ) -> Generator[AttributionProgress, None, None]:
        """The influence of the training images on a query, as it comes in; the last progress has the answer.

        Held-out images are swept too, as a reference, and are not among the scores. Closing the iterator restores the
        model and leaves nothing behind.
        """
        state, habit = self.mirror(query, method), self.habit(method)
        swept: list[SweepProgress] = []

        def raw_scores() -> InfluenceScores:
            return method.scores(state, self.losses(swept))

        for progress in self.sweep(state, method=method):
            swept.append(progress)
            yield AttributionProgress(
                progress.done,
                progress.total,
                progress.rate,
                progress.seconds_left,
                state,
                raw_scores,
                habit,
                self.index.trained,
            )

    def comparable(self, method: AttributionMethod) -> dict[str, Any]:
        """What two answers must share for their scores to be compared."""
        return {"method": settings_of(method), "tunable": self.model.spec.tunable}

    def habit(self, method: AttributionMethod) -> Habit | None:
        """What is usual for every indexed image; None where the index was not asked that often enough by `method`."""
        reference = self.reference(method)
        if reference is None or len(reference.queries) < FEWEST:
            return None
        return Habit.of([image.id for image in self.index.catalog.images], reference.per_draw)

    def unseen(self, method: AttributionMethod, prompted: bool = True) -> Tensor | None:
        """The highest score that any training image has for each picture the model never saw, `[b]`.

        Asked with their captions, or without any prompt. None where just this index was not asked that by `method`.
        """
        reference = self.reference(method) if self.index.only is None else None
        if reference is None:
            return None
        return self._highest_unseen if prompted else reference.unprompted

    def reference(self, method: AttributionMethod) -> Reference | None:
        """How indexed images score for pictures that the model never saw; None where `method` did not ask that."""
        reference = self.index.reference if self.habits else None
        return reference if reference and reference.settings == self.comparable(method) else None

    def confidence(self, scores: InfluenceScores, method: AttributionMethod, prompted: bool = True) -> Confidence:
        """How sure scores by `method` are, of a query with or without a prompt."""
        unseen = self.unseen(method, prompted)
        p = None if unseen is None else p_values(scores.scores, unseen)
        return Confidence(p, 0 if unseen is None else len(unseen), rank_ranges(scores))

    def attribute(
        self,
        picture: Image,
        prompt: str = "",
        method: AttributionMethod = DEFAULT_METHOD,
        on_progress: Callable[[AttributionProgress], None] = lambda progress: None,
    ) -> InfluenceScores:
        """The influence of every training image on a picture, by `method`."""
        for progress in self.follow(self.query(picture, prompt), method):
            on_progress(progress)
        return progress.scores()

    def _nearest(self, picture: Image) -> TrainingImage:
        """The image that looks most like a picture, of those trained on; raises what `similarities` raises."""
        alike = zip(self.similarities(picture).tolist(), self.index.catalog.images, strict=True)
        return max((found for found in alike if found[1].id in self.index.trained), key=lambda found: found[0])[1]

    @cached_property
    def _highest_unseen(self) -> Tensor:
        """What `unseen` has of the index's reference asked with captions: the same for every answer."""
        reference = self.index.reference
        assert reference is not None
        return highest(reference.per_draw, reference.weights, self.index.trained_mask, sized=reference.sized)

    @cached_property
    def _embedder(self) -> Embedder:
        info = self.index.info
        try:
            embedder = self.embedder or load_embedder(info.embedder, self.model)
        except UnsupportedModel as error:
            raise UnsupportedModel(
                f"“{self.index.folder.name}” was embedded with “{info.embedder}”, which is not at hand by that name. "
                "Say where it is (--embedder, FORWARDINF_EMBEDDER), or build the index again with unet."
            ) from error
        if embedder.fingerprint != info.embedder_fingerprint:
            raise IndexMismatch(
                f"“{self.index.folder.name}” was embedded with {info.embedder} ({info.embedder_fingerprint[:12]}…), "
                f"not with this {embedder.name} ({embedder.fingerprint[:12]}…). Use that one, or build the index again."
            )
        return embedder


def rounds(state: QueryState, plan: DrawPlan) -> Iterator[tuple[QueryState, DrawPlan]]:
    """Each state that a sweep goes over all images with, and the draws that it takes."""
    own: QueryState | None = state
    while own is not None:
        yield own, plan if own.draws is None else plan.part(own.draws)
        own = own.then


def _measured(
    method: AttributionMethod, state: QueryState, model: AttributableModel, batch: LatentBatch, plan: DrawPlan
) -> Tensor:
    return method.measure(model, state, batch, plan)


def _by_round(swept: list[SweepProgress], total: int) -> list[list[SweepProgress]]:
    """What was swept in the first round so far, or in each round that is over."""
    rounds: list[list[SweepProgress]] = [[]]
    examples = 0
    for progress in swept:
        if examples == total:
            rounds.append([])
            examples = 0
        rounds[-1].append(progress)
        examples += len(progress.example_ids)
    return rounds if examples == total or len(rounds) == 1 else rounds[:-1]
