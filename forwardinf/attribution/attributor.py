"""The orchestrator: a picture in, the influence of every training image out.

attributor = Attributor.load()
scores = attributor.attribute(picture, prompt="red apple")
scores.top(10)
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import load_settings
from ..embedders.protocol import Embedder
from ..embedders.registry import load_embedder
from ..errors import IndexMismatch, UnsupportedModel
from ..index.null_file import NullChanges, NullSizes
from ..index.store import Index
from ..methods.forward_inf import ForwardInf
from ..methods.protocol import AttributionMethod, QueryState, settings_of
from ..methods.registry import scores_alike
from ..models.protocol import CaptionedPicture, PictureModel
from ..models.registry import load_model
from ..scoring.confidence import Confidence, highest
from ..scoring.null import FEWEST_FOR_Z_SCORES, NullDistribution
from ..sweep.executors.threads import ThreadExecutor
from ..sweep.job import Executor, IndexRef, SweepJob
from ..sweep.journal import TaskJournal
from ..sweep.rounds import Measured, Round
from ..types import InfluenceScores, ModelSpec, Query
from .likely import answered_in_part
from .null_changes import changes_under
from .paid import Paid
from .planning import method_for
from .progress import AttributionProgress, Pace
from .shortlist import Effort
from .training_set import IndexedImages, batches_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

DEFAULT_METHOD = ForwardInf()  # of an index that was built for no other


@dataclass(frozen=True)
class Attributor:
    """A model and the index of its training images; raises IndexMismatch where they do not belong together."""

    model: PictureModel
    index: Index
    embedder: Embedder | None = None  # None: the one that the index names, loaded when first needed
    cache: Path | None = None  # a folder for what some methods compute once for all queries; None recomputes it
    against_null: bool = True  # hold changes against each image's null distribution, where the index has one
    held_against: NullSizes | None = None  # in place of the index's null
    executor: Executor | None = None  # None: threads of this process
    journal: Path | None = None  # a folder of finished tasks, so that a sweep that was cut off goes on; None keeps none

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
        executor: Executor | None = None,
    ) -> Attributor:
        """Open an index and its model, by default those of FORWARDINF_INDEX and FORWARDINF_MODEL.

        Weights to move, precision and preparation of pictures are the index's, unless `tunable`, `spec` or
        FORWARDINF_DTYPE says otherwise; `embedder` says where the index's is. Raises ForwardInfError.
        """
        opened = index if isinstance(index, Index) else Index.open(index or load_settings().index)
        spec = spec or load_settings().model_spec(index_dtype=opened.info.dtype)
        model = load_model(opened.info.applied_to(replace(spec, tunable=tunable or opened.info.tunable)))
        return cls(model, opened, load_embedder(embedder, model) if embedder else None, cache, executor=executor)

    def query(self, picture: Image, prompt: str = "", sha256: str | None = None) -> Query:
        """An RGB picture of any size, as the model sees it; `sha256` is that of its original bytes.

        Without a prompt, the caption of the most similar training image is used. Every training image is measured under
        its caption, as it was trained; a step under an empty prompt changes other weights than those that encode an
        image with its caption, so even the training image itself would score low. A model that reads none needs none.
        """
        digest = sha256 or hashlib.sha256(picture.tobytes()).hexdigest()
        bare = self.model.reads_prompts and not prompt.strip()
        fallback = self.index.catalog.by_id[self.nearest(picture)[0]].caption if bare else None
        example = CaptionedPicture(f"query-{digest[:16]}", picture, prompt if fallback is None else fallback)
        seen = self.model.encode([example])
        return Query(example.id, digest, prompt, seen.latents, seen.conditioning, picture, fallback, seen.mirrored)

    def prepare(self, query: Query, method: AttributionMethod | None = None) -> QueryState:
        """What `method` works out from a query before the sweep; for a mirrored method the gradient steps on it."""
        method = method or self.default_method
        seen = IndexedImages(self.index, self.cache, self.similarities, self.model.spec.device)
        return method.prepare(self.model, query, seen)

    def jobs(
        self,
        state: QueryState,
        method: AttributionMethod | None = None,
        paid: Paid | None = None,
        rounds: Sequence[Round] | None = None,
    ) -> list[SweepJob]:
        """The rounds that `state`, the method's, asks for, or these of them, over the images that the index visits.

        Without those of which it is known already, where something is `paid`.
        """
        only, wanted = self.index.only, state.rounds if rounds is None else rounds
        rounds = [r if r.example_ids or only is None else replace(r, example_ids=tuple(only)) for r in wanted]
        if paid is not None:
            rounds = [left for r in rounds if (left := paid.rest_of(r, self.index.visited)) is not None]
        index = IndexRef(str(self.index.folder), self.index.fingerprint)
        by: AttributionMethod = method or self.default_method
        return [SweepJob(self.model.spec, index, by, state, r, self.index.info.plan) for r in rounds]

    def sweep(
        self,
        state: QueryState,
        method: AttributionMethod | None = None,
        batch_size: int | None = None,
        paid: Paid | None = None,
    ) -> Generator[Measured, None, None]:
        """What `method` measures of every example under the weights that its `state` moves, task by task.

        Only what is not `paid` yet. Closing the generator restores the model and stops.
        """
        return self.run(self.jobs(state, method, paid), batch_size)

    def run(self, jobs: list[SweepJob], batch_size: int | None = None) -> Generator[Measured, None, None]:
        """What these jobs measure, task by task, as `sweep`."""
        batches = partial(batches_of, self.index, device=self.model.spec.device)
        executor = self.executor or ThreadExecutor(self.model, batches, batch_size)
        return executor.run(jobs, TaskJournal(self.journal) if self.journal else None)

    def follow(
        self,
        query: Query,
        method: AttributionMethod | None = None,
        effort: Effort | None = None,
        paid: Paid | None = None,
    ) -> Generator[AttributionProgress, None, None]:
        """The influence of the training images on a query, as it comes in; the last progress has the answer.

        With an `effort` only the most likely training images are weighed, where the method moves the size of the
        prediction; the first progress has their order then, and no score. Which these are the index's sketches say; or
        without any the sizes of all images, which are measured first. Otherwise all images are weighed, the held-out
        ones for comparison only. What is `paid` for the same question, or found in the journal, is not measured again,
        and what is measured is added to it. Closing the generator restores the model.
        """
        method = method or self.default_method
        began, paid = time.perf_counter(), Paid() if paid is None else paid
        state = self._prepared(query, method, paid)
        if effort and (yield from answered_in_part(self, query, state, method, effort, paid, began)):
            return
        results = list(paid.of(self.index.visited))
        pace = Pace(state.rounds, self.index.count, results)
        now = AttributionProgress(
            **pace.now(), method=method, state=state, results=tuple(results), index=self.index, null=self.null(method)
        )
        if pace.begun:
            yield now
        with closing(self.sweep(state, method, paid=paid)) as sweep:
            for measured in sweep:
                results.append(measured)
                paid.add(measured)
                pace.pay(measured)
                if pace.begun:
                    yield replace(now, **pace.now(), results=tuple(results))

    def _prepared(self, query: Query, method: AttributionMethod, paid: Paid) -> QueryState:
        """The method's state for a query, unless it is `paid`; what the journal has of its rounds is taken as paid."""
        if paid.state is None:
            paid.state = self.prepare(query, method)
        if self.journal is not None:
            for measured in TaskJournal(self.journal).found(self.jobs(paid.state, method)):
                paid.add(measured)
        return paid.state

    def attribute(
        self,
        picture: Image,
        prompt: str = "",
        method: AttributionMethod | None = None,
        on_progress: Callable[[AttributionProgress], None] = lambda progress: None,
    ) -> InfluenceScores:
        """The influence of every training image on a picture, by `method`, or by that of the index."""
        for progress in self.follow(self.query(picture, prompt), method):
            on_progress(progress)
        return progress.scores()

    def similarities(self, picture: Image) -> Tensor:
        """How similar every indexed image is to an RGB picture: cosines `[n]` in the index's order, at most 1.

        Not while a sweep is under way, as the model may be the embedder. Raises IndexMismatch where the embedder is not
        the one that the index was made with, UnsupportedModel where that one cannot be loaded.
        """
        return self.index.neighbours.similarities(self._embedder.embed([picture])[0])

    @cached_property
    def default_method(self) -> ForwardInf:
        """The method that the index was built for, by which questions are answered where none is named."""
        return method_for(self.index.info.method)

    def comparable_settings(self, method: AttributionMethod) -> dict[str, Any]:
        """What two answers must share for their scores to be compared, as it is kept; `is_comparable` compares."""
        return {"method": settings_of(method), "tunable": self.model.spec.tunable}

    def is_comparable(self, kept: Mapping[str, Any], method: AttributionMethod) -> bool:
        """Whether scores by `method` can be compared with those whose `comparable_settings` were kept."""
        return kept["tunable"] == self.model.spec.tunable and scores_alike(kept["method"], method)

    def null(self, method: AttributionMethod) -> NullDistribution | None:
        """Each indexed image's null distribution; None where the index has none for `method`, or too small a one."""
        kept = self.null_changes(method)
        return None if kept is None or len(kept.queries) < FEWEST_FOR_Z_SCORES else self._null

    def null_scores(self, method: AttributionMethod, prompted: bool = True) -> Tensor | None:
        """The highest score that any training image has under each null picture, `[m]`.

        With their captions, or without any prompt. None where the whole index was not run with these by `method`.
        """
        kept = self.null_changes(method) if self.index.only is None else None
        if kept is None or not prompted:
            return None if kept is None else kept.unprompted
        return kept.highest if isinstance(kept, NullSizes) else self._highest_prompted

    def null_changes(self, method: AttributionMethod) -> NullChanges | NullSizes | None:
        """What indexed images score under null pictures; None where the index has none for `method`."""
        kept = (self.held_against or self.index.null_changes) if self.against_null else None
        return kept if kept and self.is_comparable(kept.settings, method) else None

    def confidence(self, scores: InfluenceScores, method: AttributionMethod, prompted: bool = True) -> Confidence:
        """How sure scores by `method` are, of a query with or without a prompt."""
        return Confidence.of(scores, self.null_scores(method, prompted))

    def nearest(self, picture: Image, count: int = 1) -> list[str]:
        """The training images most similar to a picture; raises what `similarities` raises."""
        return self.index.neighbours.nearest(self._embedder.embed([picture])[0], self.index.trained_mask, count)

    @cached_property
    def _null(self) -> NullDistribution:
        """The index's null distribution, which is the same for every answer."""
        kept = self.held_against or self.index.null_changes
        assert kept is not None
        return NullDistribution.of([image.id for image in self.index.catalog.images], kept.per_draw)

    @cached_property
    def _highest_prompted(self) -> Tensor:
        """`null_scores` of the index's null pictures with their captions: the same for every answer."""
        assert isinstance(self.index.null_changes, NullChanges)
        return highest(changes_under(self.index.null_changes, self.index), self.index.trained_mask)

    @cached_property
    def _embedder(self) -> Embedder:
        info = self.index.info
        try:
            embedder = self.embedder or load_embedder(info.embedder, self.model)
        except UnsupportedModel as error:
            raise UnsupportedModel(
                f"“{self.index.folder.name}” was embedded with “{info.embedder}”, which was not found under that name. "
                "Say where it is (--embedder, FORWARDINF_EMBEDDER), or build the index again with unet."
            ) from error
        if embedder.fingerprint != info.embedder_fingerprint:
            raise IndexMismatch(
                f"“{self.index.folder.name}” was embedded with {info.embedder} ({info.embedder_fingerprint[:12]}…), "
                f"not with this {embedder.name} ({embedder.fingerprint[:12]}…). Use that one, or build the index again."
            )
        return embedder
