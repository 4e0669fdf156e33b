"""What every page stands on: a model with its index, a catalog, results, the lock on the model and its thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from ..attribution import Attributor
from ..index.catalog import Catalog
from ..models import PictureModel
from ..results import ResultStore
from .worker import Worker


@dataclass(frozen=True)
class Served:
    """The lock is ours because a cancelled handler runs to its end while Gradio already starts the next."""

    attributor: Attributor
    catalog: Catalog
    results: ResultStore
    worker: Worker  # that loaded the attributor
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: dict[str, threading.Event] = field(default_factory=dict)  # by browser session; set to stop

    @property
    def model(self) -> PictureModel:
        return self.attributor.model

    def stop(self, session: str | None) -> None:
        """Ask a session's attribution to stop; it does within one batch."""
        if event := self.running.get(session or ""):
            event.set()
