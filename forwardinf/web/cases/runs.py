"""Runs of cases: each belongs to the server, so it goes on when its page is left, and all take turns on the model.

A run that had not ended when the app did goes on when the app is back, as what was answered stays.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from ...attribution.shortlist import Effort
from ...errors import ForwardInfError, MissingAsset, StopRequested
from ...jobs.under_way import UnderWay
from ...review.cases import Case, Picture, numbered_case
from ...review.database import Database
from ...review.run import TOP, CaseRun, Outcome
from ...stopping import heeded
from ..served import Served

log = logging.getLogger(__name__)

PATIENCE = 0.2  # seconds between two looks at whether a run that waits for the model is still wanted
GIVE_WAY = 0.05  # seconds after each picture, in which others get the model who wait for it
FAILED = "Something went wrong; the details are in the server’s log. What was answered stays."
ENDED_THE_APP = "The app ended twice during this run, so it does not go on by itself. What was answered stays."


@dataclass
class CaseProgress:
    """How far a run is."""

    case: Case
    stop: threading.Event = field(default_factory=threading.Event)
    total: int = 0  # pictures that waited when it began
    done: int = 0
    picture: str = ""  # the file that is being answered
    images: tuple[int, int] = (0, 0)  # weighed for it, of at most
    problems: list[str] = field(default_factory=list)
    outcome: str = ""  # what became of it; empty while it runs

    @property
    def runs(self) -> bool:
        return not self.outcome


class CaseRuns:
    """The last run of each case since the app began; `under_way` keeps which had not ended."""

    def __init__(self, served: Served, database: Database, under_way: UnderWay) -> None:
        self._served, self._database, self._under_way = served, database, under_way
        self._last: dict[int, CaseProgress] = {}  # by the case's number
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closing = False

    def of(self, case: Case) -> CaseProgress | None:
        return self._last.get(case.id)

    def start(self, case: Case) -> CaseProgress:
        """A run of the pictures that wait; the one that is under way, where there is one."""
        with self._lock:
            last = self._last.get(case.id)
            if last and last.runs:
                return last
            self._under_way.begin(str(case.id))
            self._last[case.id] = progress = CaseProgress(case)
            thread = threading.Thread(target=self._run, args=[progress], name="forwardinf-case", daemon=True)
            self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
            thread.start()
        return progress

    def stop(self, case: Case) -> None:
        """Ask a run to stop, within a block of a network; answers that are kept stay."""
        if last := self.of(case):
            last.stop.set()

    def go_on(self) -> None:
        """Start again what had not ended when the app did; what ended it twice is only told."""
        for number, worth_it in self._under_way.left_over():
            try:
                case = numbered_case(self._database, int(number))
            except MissingAsset:
                self._under_way.end(number)
                continue
            if worth_it:
                self.start(case)
            else:
                self._under_way.end(number)
                self._last[case.id] = CaseProgress(case, outcome=ENDED_THE_APP)

    def close(self) -> None:
        """Ask every run to stop, and wait until it has; it goes on when the app is back."""
        self._closing = True
        for last in self._last.values():
            last.stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, progress: CaseProgress) -> None:
        try:
            self._answer(progress)
            progress.outcome = _ended(progress, "Done")
        except StopRequested:
            progress.outcome = _ended(progress, "Stopped")
        except ForwardInfError as error:
            progress.outcome = str(error)
        except Exception as error:
            log.error("The run of a case failed", exc_info=error)
            progress.outcome = FAILED
        if self._closing:
            self._under_way.leave(str(progress.case.id))
        else:
            self._under_way.end(str(progress.case.id))

    def _answer(self, progress: CaseProgress) -> None:
        run = self._served.ask(
            lambda attributor: CaseRun(
                self._database, attributor, self._served.results, attributor.default_method, Effort.to_decide(TOP)
            )
        )
        waiting = run.waiting(progress.case)
        progress.total = len(waiting)
        for picture in waiting:
            self._take_turn(progress)
            try:
                self._answer_one(run, picture, progress)
            finally:
                self._served.lock.release()
            progress.done += 1
            self._under_way.got_on(str(progress.case.id))
            progress.stop.wait(GIVE_WAY)

    def _take_turn(self, progress: CaseProgress) -> None:
        """Take the lock on the model; raises StopRequested where the run is not wanted any more."""
        while not self._served.lock.acquire(timeout=PATIENCE):
            if progress.stop.is_set():
                raise StopRequested("The run was stopped before its turn came.")

    def _answer_one(self, run: CaseRun, picture: Picture, progress: CaseProgress) -> None:
        progress.picture, progress.images = picture.file_name, (0, 0)
        for step in self._served.worker.steps(heeded(run.steps(picture), progress.stop.is_set)):
            if not isinstance(step, Outcome):
                progress.images = step.done, step.total
            elif step.problem:
                progress.problems.append(f"Picture {picture.number} ({picture.file_name}): {step.problem}")


def _ended(progress: CaseProgress, how: str) -> str:
    if not progress.total:
        return "Every picture has an answer of this index already."
    answered = progress.done - len(progress.problems)
    return f"{how}: {answered} of {progress.total} answered. What is answered stays."
