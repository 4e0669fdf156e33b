"""What every page stands on: an index and its model, kept results, runs, the model's thread and the lock on it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request

from ..attribution.attributor import Attributor
from ..attribution.paid import PaidQuestions
from ..attribution.planning import method_for
from ..config import EMOJI_INDEX
from ..examples.catalog import Catalog
from ..index.store import Index, read_info
from ..jobs.queue import RunQueue
from ..methods.forward_inf import ForwardInf
from ..records.shipped import ShippedAnswers
from ..records.store import RecordStore
from .models import Loading
from .pictures import Pictures
from .worker import Worker

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Served:
    """The lock is needed because a cancelled handler runs on while Gradio already starts the next one."""

    index: Index
    checkpoint: Path  # of the model that the index was made with
    loading: Loading  # pages are shown before the model is loaded
    results: RecordStore
    worker: Worker  # loads the attributor, and does everything with it
    folder: Path  # for temporary files; removed when the app ends
    runs: RunQueue[Any]  # of questions; what their steps are, `runs.answering` says
    finished: ShippedAnswers = field(default_factory=ShippedAnswers)  # the answers on the first screen
    drawn: Path | None = None  # folder for what is drawn once for an index; None draws it each time
    paid: PaidQuestions = field(default_factory=PaidQuestions)  # for the model's thread alone
    lock: threading.Lock = field(default_factory=threading.Lock)
    prefix: str = ""  # where its pages are: at the app's address, or below it as in /at/other
    beside: list[Served] = field(default_factory=list, repr=False)  # every index of the app in order, this one too
    may_build: bool = False  # whether indexes may be built in the browser
    watching: dict[str, str | None] = field(default_factory=dict)  # the run that a page shows, by browser session

    @property
    def attributor(self) -> Attributor:
        """For use in the worker's thread alone: neither a model nor its tokenizer bears two threads."""
        assert self.worker.is_current, "the model was touched outside the worker's thread"
        return self.loading.result()

    def ask(self, work: Callable[[Attributor], Outcome]) -> Outcome:
        """What `work` makes of the attributor, in the worker's thread; waits until the model is loaded."""
        return self.worker.call(lambda: work(self.attributor))

    @property
    def catalog(self) -> Catalog:
        """The images of the index: those the model was trained on, and those held out."""
        return self.index.catalog

    @cached_property
    def method(self) -> ForwardInf:
        """By which questions are answered, with its defaults."""
        return method_for(self.index.info.method)

    @cached_property
    def shipped(self) -> bool:
        """Whether this is the index that comes with the project, which its evidence and its licence text are about."""
        return EMOJI_INDEX.is_dir() and read_info(EMOJI_INDEX) == self.index.info

    @cached_property
    def pictures(self) -> Pictures:
        """Of all visitors."""
        return Pictures(self.folder / "pictures")

    @property
    def held_out(self) -> int:
        """How many images of the index the model was not trained on."""
        return self.index.count - len(self.index.trained)

    def url_of(self, example_id: str) -> str:
        """Where the browser finds an image of the index; another index has other addresses."""
        return f"{self.catalog.by_id[example_id].file_name}?{self.index.fingerprint[:12]}"

    @property
    def title(self) -> str:
        """What the switcher calls the index."""
        return "Emoji" if self.shipped else self.index.folder.name

    def of_index(self, fingerprint: str) -> Served | None:
        """The index of the app with this fingerprint; None where it is not served."""
        known = self.beside or [self]
        return next((served for served in known if served.index.fingerprint == fingerprint), None)

    def from_here(self, other: Served, url: str) -> str:
        """An address of another index's, relative to this one's pages."""
        return url if other is self else "../" * self.prefix.count("/") + f"{other.prefix[1:]}/{url}".lstrip("/")

    def root_of(self, request: Request) -> str:
        """The path that the whole app is served under; empty for none."""
        root: str = request.scope.get("root_path", "")
        return root.removesuffix(self.prefix) if self.prefix else root

    def leave(self, session: str | None) -> None:
        """A visitor has gone: their pictures are not kept any longer. Their runs go on."""
        self.watching.pop(session or "", None)
        self.pictures.forget(session)
