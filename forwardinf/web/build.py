"""The app: its pages put together, and served with a profile that shares nothing."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gradio as gr
from fastapi import FastAPI, Request
from starlette.types import ASGIApp

from ..attribution.attributor import Attributor
from ..attribution.executor import load_executor
from ..config import EMOJI_ANSWERS, Settings
from ..index.store import Index
from ..jobs.queue import open_queue
from ..records.shipped import ShippedAnswers, WithShipped
from ..records.store import FolderStore
from ..review.cases import Case, list_cases
from . import api, attribute, cases, evidence, folders, guard, history, method, runs, site, theme, training_set
from .served import Served
from .server import Server, leaving_on_signals, listening_on, url_of
from .worker import Worker


@dataclass(frozen=True)
class Page:
    name: str
    path: str
    description: str  # for previews of a link
    add: Callable[[Served], None]

    @property
    def head(self) -> site.Head:
        title = f"{self.name} · {site.NAME}" if self.path else f"{site.NAME}: {QUESTION}"
        return site.Head(title, self.description)


UPLOADS_KEPT = 600  # seconds that Gradio has its copy of an upload for; ours stays until the visitor leaves
QUESTION = "which training images made this picture?"
PAGES = (
    Page(
        "Attribute",
        "",
        "Give a picture to a generative model and see which of its training images shaped it, who made them, and "
        "whether any of them stands out.",
        attribute.add,
    ),
    Page(
        "Training set",
        "training-set",
        "Every image that the model was trained on, with its creator and its licence.",
        training_set.add,
    ),
    Page(
        "Method",
        "method",
        "How the influence of a training image on a picture is estimated, and what the answer does not mean.",
        method.add,
    ),
    Page(
        "Evidence",
        "evidence",
        "How accurate the answers are, measured where the true answer is known, beside other methods.",
        evidence.add,
    ),
)
PAGE_NAMES = tuple((page.name, page.path) for page in PAGES)


def review_pages(settings: Settings) -> cases.Navigation:
    """Name and path of the pages beside Gradio's.

    The history is not among them where strangers may use the app, as it lists what others asked.
    """
    own = settings.is_local or settings.asks_to_sign_in
    return (("Cases", "cases"), ("History", history.PLACE)) if own else (("Cases", "cases"),)


def build(served: Served, beside: cases.Navigation = (), begun: Callable[[], Sequence[Case]] = tuple) -> gr.Blocks:
    """Gradio's pages, not yet served; the navigation leads to those `beside` them too.

    Programs are told of the cases that are `begun`.
    """
    first, *others = PAGES
    site.set_heads({page.path: page.head for page in PAGES})
    with gr.Blocks(title=site.NAME, analytics_enabled=False, delete_cache=(UPLOADS_KEPT, UPLOADS_KEPT)) as app:
        gr.Navbar(list(beside), main_page_name=first.name)
        first.add(served)
        api.add(served, begun)
        app.unload(_leaver(served))
    for page in others:
        with app.route(page.name, page.path):
            gr.Navbar(list(beside), main_page_name=first.name)
            page.add(served)
    return app


def _leaver(served: Served) -> Callable[[gr.Request], None]:
    def leave(browser: gr.Request) -> None:
        served.leave(browser.session_hash)

    return leave


def serve(settings: Settings) -> None:
    """Serve what `settings` name until interrupted; raises ForwardInfError where something of it cannot be used.

    The pages are up before the model is loaded, which takes more than half of the start.
    """
    with leaving_on_signals(), folders.temporary_folder() as folder:
        store = FolderStore.open(folders.results_folder(settings.results, folder))
        sessions = guard.sessions_of(settings)
        index = Index.open(settings.index)
        finished = ShippedAnswers.of(EMOJI_ANSWERS, index.fingerprint)
        results = WithShipped(store, finished)
        with listening_on(settings.host, settings.port) as listener:
            listening: Future[None] = Future()
            worker = Worker()

            def load() -> Attributor:
                listening.result()  # till then loading would only slow the first page down
                executor = load_executor(settings)
                spec = settings.model_spec(index_dtype=index.info.dtype)
                return Attributor.load(index, spec, embedder=settings.embedder, executor=executor)

            @asynccontextmanager
            async def announce(_: FastAPI) -> AsyncIterator[None]:
                url, who = url_of(settings.host, settings.port), guard.access(settings, sessions)
                print(f"{site.NAME} is at {url}\n{who}", flush=True)
                listening.set_result(None)
                yield

            try:
                loading = worker.start(load)
                runs_of = open_queue(folders.beside(store.folder, "runs"), folder / "runs")
                drawn = folders.beside(store.folder, "drawn")
                served = Served(index, Path(settings.model), loading, results, worker, folder, runs_of, finished, drawn)
                runs_of.start(partial(runs.answering, served))
                desk = cases.Desk.of(served, settings, store, (*PAGE_NAMES, *review_pages(settings)))
                desk.go_on()
                app = application(desk, announce, settings, sessions)
                server = Server(app, listener, on_end=partial(_end, desk))
                loading.add_done_callback(lambda loaded: server.stop() if loaded.exception() else None)
                server.run_until_signalled()
            finally:
                listening.cancel()  # where the server never came up, so that the worker does not wait for ever
            loading.result()


def _end(desk: cases.Desk) -> None:
    """Nothing is computed any more, so that the model's thread is free."""
    desk.close()
    desk.served.runs.close()


def application(
    desk: cases.Desk, lifespan: site.Lifespan, settings: Settings, sessions: guard.Sessions | None
) -> ASGIApp:
    """The pages and all they need, behind what keeps strangers within bounds."""
    pages = build(desk.served, review_pages(settings), lambda: list_cases(desk.database))

    def shows(number: int) -> bool:
        return number in pages.fns and guard.is_for_viewers(pages.fns[number].fn)

    app = mounted(desk, pages, lifespan, guard.name_of if sessions else None)
    return guard.guarded(app, settings, sessions, shows)


def mounted(
    desk: cases.Desk, pages: gr.Blocks, lifespan: site.Lifespan, name_of: Callable[[Request], str | None] | None
) -> FastAPI:
    """The pages, the files they need and the files of kept results, as one web application.

    `name_of` says who asks, where people have to sign in.
    """
    app = site.routes(desk.served.results, desk.index, lifespan)
    cases.add_to(app, desk)
    if history.PLACE in dict(desk.navigation).values():
        history.add_to(app, desk)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="SSR mode")  # it is off
        return gr.mount_gradio_app(
            app,
            pages.queue(api_open=False),
            path="/",
            auth_dependency=name_of,
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=True,
            footer_links=[],
            show_error=False,
            max_file_size="20mb",
            theme=theme.THEME,
            head=theme.HEAD,
            app_kwargs={"exception_handlers": site.ERRORS},
        )
