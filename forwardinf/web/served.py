"""What every page stands on: an index and its model, a catalog, results, the lock on the model and its thread."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from ..attribution.attributor import Attributor
from ..examples.catalog import Catalog
from ..index.store import Index
from ..models.protocol import PictureModel
from ..records.store import ResultStore
from .worker import Worker


@dataclass(frozen=True)
class Served:
    """The lock is ours because a cancelled handler runs to its end while Gradio already starts the next."""

    index: Index
    checkpoint: Path  # of the model that it was made with
    loading: Future[Attributor]  # of the two; pages are there before the model is
    catalog: Catalog
    results: ResultStore
    worker: Worker  # that loads the attributor
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: dict[str, threading.Event] = field(default_factory=dict)  # by browser session; set to stop

    @property
    def attributor(self) -> Attributor:
        """Waits until its model is loaded."""
        return self.loading.result()

    @property
    def model(self) -> PictureModel:
        return self.attributor.model

    def stop(self, session: str | None) -> None:
        """Ask a session's attribution to stop; it does within one batch."""
        if event := self.running.get(session or ""):
            event.set()
