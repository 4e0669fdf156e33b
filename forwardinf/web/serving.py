"""The app on one index or several, from its settings to the end of its process."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from ..attribution.attributor import Attributor
from ..attribution.executor import load_executor
from ..config import EMOJI_ANSWERS, Settings
from ..errors import ForwardInfError
from ..index.store import Index
from ..jobs.builds import Build, Builds
from ..jobs.queue import RunQueue, open_queue
from ..records.shipped import ShippedAnswers, WithShipped
from ..records.store import FolderStore
from . import cases, folders, guard, runs, site
from .build import PAGE_NAMES, application, review_pages
from .models import Models
from .served import Served
from .server import Server, leaving_on_signals, listening_on, url_of
from .shelf import Place, Shelf, nothing_more, prefix_for
from .worker import Worker

log = logging.getLogger(__name__)


def serve(settings: Settings, others: Sequence[Settings] = ()) -> None:
    """Serve what `settings` name until interrupted; raises ForwardInfError where something of it cannot be used.

    `others` are the settings of further indexes. The pages are up before the first model is loaded, which takes more
    than half of the start; the others' are loaded when they are asked for.
    """
    with leaving_on_signals(), folders.temporary_folder() as folder:
        store = FolderStore.open(folders.results_folder(settings.results, folder))
        sessions = guard.sessions_of(settings)
        indexes = [(one, Index.open(one.index)) for one in (settings, *others)]
        with listening_on(settings.host, settings.port) as listener:
            listening: Future[None] = Future()
            runs_of = open_queue(folders.beside(store.folder, "runs"), folder / "runs")
            common = _Common(settings, store, sessions, folder, runs_of)
            common.builds = Builds(folders.beside(store.folder, "indexes"), common.add_built)

            @asynccontextmanager
            async def announce(_: FastAPI) -> AsyncIterator[None]:
                url, who = url_of(settings.host, settings.port), guard.access(settings, sessions)
                print(f"{site.NAME} is at {url}\n{who}", flush=True)
                listening.set_result(None)
                yield

            try:
                first = common.place(*indexes[0], announce)
                loading = common.worker.start(lambda: (listening.result(), first.served.loading.result()))
                common.shelf = shelf = Shelf(first)
                for other in indexes[1:]:
                    shelf.add(common.place(*other))
                common.add_all_built()
                runs_of.start(partial(runs.answering, first.served))
                for desk in common.desks:
                    desk.go_on()
                common.builds.start()
                server = Server(shelf, listener, on_end=common.end)
                loading.add_done_callback(lambda loaded: server.stop() if loaded.exception() else None)
                server.run_until_signalled()
            finally:
                listening.cancel()  # where the server never came up, so that the worker does not wait for ever
            loading.result()


@dataclass
class _Common:
    """What the indexes of an app share."""

    settings: Settings
    store: FolderStore
    sessions: guard.Sessions | None
    folder: Path  # for temporary files
    runs: RunQueue[Any]
    worker: Worker = field(default_factory=Worker)
    models: Models = field(default_factory=Models)
    lock: threading.Lock = field(default_factory=threading.Lock)
    uploads: guard.Quota = field(default_factory=guard.upload_quota)
    served: list[Served] = field(default_factory=list)
    desks: list[cases.Desk] = field(default_factory=list)
    shelf: Shelf | None = None  # once the first index is on it
    builds: Builds | None = None

    def place(self, settings: Settings, index: Index, lifespan: site.Lifespan = nothing_more) -> Place:
        """An index with its pages, its model not loaded yet; the first one has the app's own address."""

        def load() -> Attributor:
            spec = settings.model_spec(index_dtype=index.info.dtype)
            return Attributor.load(index, spec, embedder=settings.embedder, executor=load_executor(settings))

        prefix = prefix_for(index.folder.name, self.served) if self.served else ""
        finished = ShippedAnswers.of(EMOJI_ANSWERS, index.fingerprint)
        served = Served(
            index,
            Path(settings.model),
            self.models.lazily(load),
            WithShipped(self.store, finished),
            self.worker,
            self.folder / prefix.strip("/"),
            self.runs,
            finished,
            folders.beside(self.store.folder, "drawn"),
            lock=self.lock,
            prefix=prefix,
            beside=self.served,
            may_build=self.settings.may_build,
        )
        desk = cases.Desk.of(served, self.settings, self.store, (*PAGE_NAMES, *review_pages(self.settings)))
        place = application(desk, lifespan, self.settings, self.sessions, self.uploads, self.builds)
        self.desks.append(desk)
        if not self.served:
            self.served.append(served)  # the shelf adds the others once they answer
        return place

    def add_built(self, build: Build) -> None:
        """Serve an index that was built here, from now on."""
        asked, shelf = build.record.asked, self.shelf
        changes = {"index": build.index, "model": asked.model, "lora": asked.lora or None, "embedder": None}
        index = Index.open(build.index)
        known = [served.index.fingerprint for served in self.served]
        if shelf is not None and index.fingerprint not in known:
            shelf.add(self.place(self.settings.model_copy(update=changes), index))

    def add_all_built(self) -> None:
        """Serve what was built before the app was started; an index that cannot be opened any more is left out."""
        for build in self.builds.all() if self.builds else ():
            if build.record.state == "finished":
                try:
                    self.add_built(build)
                except ForwardInfError as error:
                    log.warning("“%s” is not served: %s", build.record.asked.name, error)

    def end(self) -> None:
        """Nothing is computed any more, so that the model's thread is free."""
        if self.builds is not None:
            self.builds.close()
        for desk in self.desks:
            desk.close()
        self.runs.close()
