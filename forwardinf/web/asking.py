"""One question, from a picture to its kept answer, in the steps that the page shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..attribution.answer import answer_of
from ..attribution.shortlist import Effort
from ..errors import StopRequested
from ..examples.decoding import Picture
from ..files.identity import digest_of
from ..methods.forward_inf import ForwardInf
from ..methods.protocol import settings_of
from ..records import keeping
from ..records.store import Result
from ..stopping import heeded, heeding
from . import results_view
from .served import Served

if TYPE_CHECKING:
    from ..attribution.attributor import AttributionProgress
    from ..types import Query

TOP = 20  # images that an answer lists
REFRESH = 0.5  # seconds between two reports of a running sweep
REDRAW = 2.0  # seconds between two lists of tiles, which take the browser far longer to draw than the rest


@dataclass(frozen=True)
class Question:
    picture: Picture
    original: bytes  # of the picture, as they arrived
    name: str  # of its file
    prompt: str
    method: ForwardInf
    effort: Effort | None  # None weighs every image
    stop: threading.Event  # set where no answer is wanted any more


@dataclass(frozen=True)
class Running:
    """What a page shows of a question that has no answer yet, whenever it begins to watch."""

    status: str
    tiles: str = ""


@dataclass(frozen=True)
class Stopped:
    status: str


Step = Running | Stopped | Result


def answered_before(
    served: Served, sha256: str, prompt: str, method: ForwardInf, effort: Effort | None
) -> Result | None:
    """The kept answer to the same question: one that weighed every image, or else enough of them; None without one."""
    return keeping.answered_before(served.results, served.index, sha256, prompt, method, effort)


def answered(served: Served, question: Question) -> Generator[Step, None, None]:
    """The steps to an answer; the last is the kept answer, or that it was stopped.

    To be taken in the model's thread, with the model to itself.
    """
    start = time.perf_counter()
    yield Running(results_view.preparing("Taking a training step on the picture…"))
    query, now = _query(served, question), None
    if query is not None:
        now = yield from _swept(served, question, query)
    if query is None or now is None or not now.has_answer:
        done, total = (now.done, now.total) if now else (0, served.index.count)
        yield Stopped(results_view.stopped(done, total, _held_out(served, now)))
        return
    yield _kept(served, question, query, now, round(time.perf_counter() - start, 1))


def _query(served: Served, question: Question) -> Query | None:
    """The question's picture as the model sees it; None where it was stopped."""
    picture = question.picture
    with suppress(StopRequested), heeding(question.stop.is_set):
        return served.attributor.query(picture.rgb, question.prompt, picture.sha256)
    return None


def _swept(served: Served, question: Question, query: Query) -> Generator[Step, None, AttributionProgress | None]:
    """The sweep over the training images, as far as it came."""
    now, reports = None, _Reports(served)
    # Closed, so that the model is as it was before anyone else may use it, however this ends.
    asked = digest_of([query.sha256, query.prompt, settings_of(question.method)])
    sweep = served.attributor.follow(query, question.method, question.effort, served.paid.of(asked))
    with suppress(StopRequested), closing(heeded(sweep, question.stop.is_set)) as steps:
        for now in steps:
            if now.done < now.total and (report := reports.due(now)):
                yield report
    return now


class _Reports:
    """What of a sweep is worth showing, and when."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.reported = self.drawn = float("-inf")
        self.tiles = ""

    def due(self, now: AttributionProgress) -> Running | None:
        """A report, where the last one is old enough."""
        clock = time.perf_counter()
        if clock - self.reported < REFRESH:
            return None
        self.reported = clock
        staged, held_out = now.shortlist is not None, _held_out(self.served, now)
        status = results_view.progress(now.done, now.total, held_out, now.rate, now.seconds_left, staged)
        if clock - self.drawn >= REDRAW:
            self.drawn, self.tiles = clock, self._best(now)
        return Running(status, self.tiles)

    def _best(self, now: AttributionProgress) -> str:
        """Those that are most likely, until any image is weighed; then those with the highest scores."""
        images = self.served.index.catalog.by_id
        if now.shortlist and not now.stages:
            likely = [images[i] for i in now.shortlist.likely[:TOP]]
            return results_view.foreseen(likely, self.served.url_of) if likely else ""
        scored = [(images[i], score, error) for i, score, error in now.scores().top(TOP)]
        return results_view.so_far(now.done / now.total, scored, self.served.url_of)


def _held_out(served: Served, now: AttributionProgress | None) -> int:
    """How many of the images that a sweep visits are no training images."""
    return 0 if now and now.shortlist else served.held_out


def _kept(served: Served, question: Question, query: Query, now: AttributionProgress, seconds: float) -> Result:
    answer = answer_of(served.attributor, query, question.method, now)
    picture, original, name = question.picture, question.original, question.name
    keep = partial(keeping.keep, name=name, top=TOP, model=served.attributor.model)
    return keep(served.results, answer, served.index, picture, original, seconds=seconds)
