"""What every page stands on: an index and its model, kept results, the model's thread and the lock on it."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..attribution.attributor import Attributor
from ..config import EMOJI_INDEX
from ..examples.catalog import Catalog
from ..index.store import Index, read_info
from ..models.protocol import PictureModel
from ..records.store import RecordStore
from .worker import Worker


@dataclass(frozen=True)
class Served:
    """The lock is needed because a cancelled handler runs on while Gradio already starts the next one."""

    index: Index
    checkpoint: Path  # of the model that the index was made with
    loading: Future[Attributor]  # pages are shown before the model is loaded
    results: RecordStore
    worker: Worker  # loads the attributor, and does everything with it
    folder: Path  # for temporary files; removed when the app ends
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: dict[str, threading.Event] = field(default_factory=dict)  # by browser session; set to stop

    @property
    def attributor(self) -> Attributor:
        """Waits until its model is loaded."""
        return self.loading.result()

    @property
    def model(self) -> PictureModel:
        return self.attributor.model

    @property
    def catalog(self) -> Catalog:
        """The images of the index: those the model was trained on, and those held out."""
        return self.index.catalog

    @cached_property
    def shipped(self) -> bool:
        """Whether this is the index that comes with the project, which its evidence and its licence text are about."""
        return EMOJI_INDEX.is_dir() and read_info(EMOJI_INDEX) == self.index.info

    def stop(self, session: str | None) -> None:
        """Ask a session's attribution to stop; it does within one batch."""
        if event := self.running.get(session or ""):
            event.set()

    def stop_all(self) -> None:
        """Ask every attribution to stop."""
        for event in tuple(self.running.values()):
            event.set()
