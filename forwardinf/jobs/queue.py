"""The runs of a server: asked in any thread, answered in one of its own, in order.

queue = open_queue(folder, temporary)
queue.start(answer)
run = queue.ask(asked, original)   # on disk before this returns
queue.get(run.id).record.state     # by whoever knows the id

A process that ends while runs wait or are being answered leaves them on disk, and the next puts them in line again; one
that ended the process twice is marked as failed instead.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..errors import ForwardInfError, MissingAsset, StopRequested
from .run import ENDED, NO_RUN, Asked, RunFolder, RunRecord, State, require_run_id

log = logging.getLogger(__name__)

Step = TypeVar("Step")
ATTEMPTS = 2  # of a run that ends the process
WENT_WRONG = "Something went wrong; the details are in the server’s log."
ENDED_THE_APP = "The app ended twice while it was answering this, so it is not tried again. Ask with another picture."


@dataclass(eq=False)
class Run(Generic[Step]):
    """A run as it stands; the queue alone writes to it."""

    record: RunRecord
    step: Step | None = None  # the latest of what answering it yielded
    stop: threading.Event = field(default_factory=threading.Event)  # set where no answer is wanted any more

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def ended(self) -> bool:
        return self.record.state in ENDED


Outcome = tuple[str, str]  # id of the kept answer, and a remark on it
# Yields steps and returns the outcome, or None where it was stopped; heeds the run's `stop`.
Answer = Callable[[Run[Step], "bytes | None"], Generator[Step, None, "Outcome | None"]]


class RunQueue(Generic[Step]):
    """Runs in a folder, answered one after another."""

    def __init__(self, kept: RunFolder) -> None:
        self._kept = kept
        self._runs: dict[str, Run[Step]] = {run.id: Run(run) for run in kept.read()}
        self._line: list[Run[Step]] = []  # those that have not ended, the one being answered first
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        for run in list(self._runs.values()):
            self._put_in_line_again(run)

    @property
    def folder(self) -> Path:
        """Where the runs are kept, by this process alone."""
        return self._kept.folder

    def start(self, answer: Answer[Step]) -> None:
        """Begin to answer what is in line."""
        self._thread = threading.Thread(target=self._work, args=[answer], name="forwardinf-runs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering; what has not ended is put in line again when the folder is opened next."""
        with self._changed:
            self._closing = True
            for run in self._line:
                run.stop.set()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._kept.close()

    def ask(self, asked: Asked, original: bytes | None) -> Run[Step]:
        """Put a question in line, about the picture of these bytes or one that is drawn first."""
        run: Run[Step] = Run(RunRecord.new(asked))
        self._kept.add(run.record, original)
        with self._changed:
            self._runs[run.id] = run
            self._line.append(run)
            self._changed.notify_all()
        return run

    def get(self, run_id: str) -> Run[Step]:
        """The run of an id; raises MissingAsset where there is none."""
        try:
            return self._runs[require_run_id(run_id)]
        except KeyError as error:
            raise MissingAsset(NO_RUN) from error

    def picture(self, run_id: str) -> bytes | None:
        """The original bytes of the picture of a run that has not ended; None before it is drawn."""
        return self._kept.picture(self.get(run_id).id)

    def keep_picture(self, run: Run[Step], original: bytes) -> None:
        """The picture that was drawn for a run, so that it is not drawn again after a restart."""
        self._kept.keep_picture(run.id, original)

    def ahead_of(self, run: Run[Step]) -> int:
        """How many runs are answered before this one is begun; 0 for one that is being answered or has ended."""
        with self._changed:
            return self._line.index(run) if run in self._line else 0

    @property
    def busy(self) -> bool:
        """Whether anything is being answered or waits for it."""
        return bool(self._line)

    def stop(self, run_id: str) -> None:
        """No answer is wanted any more; a run that has not begun ends at once."""
        run = self.get(run_id)
        run.stop.set()
        with self._changed:
            waiting = run in self._line[1:]
            if waiting:
                self._line.remove(run)
        if waiting:
            self._end(run, "stopped")

    def _put_in_line_again(self, run: Run[Step]) -> None:
        if run.ended:
            return
        if run.record.begun >= ATTEMPTS:
            self._end(run, "failed", problem=ENDED_THE_APP)
            return
        self._mark(run, state="waiting")
        self._line.append(run)

    def _work(self, answer: Answer[Step]) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._line or self._closing)
                if self._closing:
                    return
                run = self._line[0]
            self._follow(run, answer)
            with self._changed:
                self._line.remove(run)

    def _follow(self, run: Run[Step], answer: Answer[Step]) -> None:
        """Answer a run to its end, whichever that is."""
        try:
            self._mark(run, state="running", begun=run.record.begun + 1)
            outcome = _taken(run, answer(run, self._kept.picture(run.id)))
        except StopRequested:
            outcome = None
        except Exception as error:
            if not isinstance(error, ForwardInfError):
                log.error("A run failed", exc_info=error)
            self._end(run, "failed", problem=str(error) if isinstance(error, ForwardInfError) else WENT_WRONG)
            return
        if outcome is not None:
            self._end(run, "finished", result=outcome[0], remark=outcome[1])
        elif self._closing:
            self._mark(run, state="waiting", begun=run.record.begun - 1)
        else:
            self._end(run, "stopped")

    def _end(self, run: Run[Step], state: State, **fields: object) -> None:
        """Its picture is forgotten: a finished run's is kept with its answer. What stopping it left to say stays."""
        if state != "stopped":
            run.step = None
        self._mark(run, state=state, **fields)
        self._kept.forget_picture(run.id)

    def _mark(self, run: Run[Step], **fields: object) -> None:
        """On disk before it is seen; a full disk does not keep an answer from who waits for it."""
        record = run.record.model_copy(update=fields)
        try:
            self._kept.write(record)
        except OSError as error:
            log.warning("A run could not be kept.", exc_info=error)
        run.record = record


def _taken(run: Run[Step], steps: Generator[Step, None, Outcome | None]) -> Outcome | None:
    """What answering a run returns; its steps show in the run."""
    while True:
        try:
            run.step = next(steps)
        except StopIteration as end:
            outcome: Outcome | None = end.value
            return outcome


def open_queue(folder: Path, otherwise: Path) -> RunQueue[Any]:
    """The runs in `folder`; in the folder `otherwise`, until the app ends, where another process has that one open."""
    kept = RunFolder.open(folder)
    if kept is None:
        log.warning("Another app answers the runs in “%s”; those of this one are lost when it ends.", folder.name)
        kept = RunFolder.open(otherwise)
        assert kept is not None, "a folder of this process alone is never open elsewhere"
    return RunQueue(kept)
