"""The app: its pages put together, and served with a profile that shares nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse

from ..attribution.attributor import Attributor
from ..config import Settings
from ..errors import ForwardInfError, InvalidSettings
from ..examples.catalog import Catalog
from ..index.store import Index
from ..records.store import ResultStore
from . import attribute, evidence, method, theme, training_set
from .served import Served
from .worker import Worker


@dataclass(frozen=True)
class Page:
    name: str
    path: str
    add: Callable[[Served], None]


# The first page is the one at the root, whatever its path.
PAGES = (
    Page("Attribute", "attribute", attribute.add),
    Page("Training set", "training-set", training_set.add),
    Page("Method", "method", method.add),
    Page("Evidence", "evidence", evidence.add),
)


def build(served: Served) -> gr.Blocks:
    """All pages of the app, not yet launched."""
    first, *others = PAGES
    with gr.Blocks(title="Forward-INF", analytics_enabled=False, delete_cache=(3600, 86400)) as app:
        gr.Navbar(main_page_name=first.name)
        first.add(served)
    for page in others:
        with app.route(page.name, page.path):
            gr.Navbar(main_page_name=first.name)
            page.add(served)
    return app


def serve(settings: Settings) -> None:
    """Serve what `settings` name until interrupted; raises ForwardInfError where it cannot be used.

    Pages are there before the model: loading it, and the libraries that do, takes more than half of the start.
    """
    catalog, index, worker = Catalog.load(settings.artwork), Index.open(settings.index), Worker()
    results = ResultStore(settings.results)
    gr.set_static_paths([catalog.folder / "pictures", index.folder / "thumbnails"])
    listening: Future[None] = Future()

    def load() -> Attributor:
        listening.result()  # till then it would only slow the first page down
        return Attributor.load(index, settings.model_spec(), embedder=settings.embedder)

    loading = worker.start(load)
    try:
        app = build(Served(index, Path(settings.model), loading, catalog, results, worker)).queue(api_open=False)
        routes = _launched(app, settings)
        routes.add_api_route("/results/{result_id}/{name}", _files_of(results))
        print(f"Forward-INF is at {app.local_url}", flush=True)
        listening.set_result(None)
    finally:
        listening.cancel()  # where it never listens, so that the worker does not wait for ever; else this does nothing
    loading.result()
    app.block_thread()


def _launched(app: gr.Blocks, settings: Settings) -> FastAPI:
    """The app's routes, being served; raises InvalidSettings where its port cannot be had."""
    # A host that nobody set is left to Gradio, which on a Space takes it from GRADIO_SERVER_NAME.
    host = settings.host if "host" in settings.model_fields_set else None
    try:
        routes, _, _ = app.launch(
            server_name=host,
            server_port=settings.port,
            share=False,
            strict_cors=True,
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            footer_links=[],
            quiet=True,
            prevent_thread_lock=True,
            max_file_size="20mb",
            theme=theme.THEME,
            head=theme.HEAD,
        )
    except OSError as error:
        raise InvalidSettings(
            f"The app cannot listen on port {settings.port}; it may be in use. Set FORWARDINF_PORT to another."
        ) from error
    return routes


def _files_of(results: ResultStore) -> Callable[[str, str], FileResponse]:
    """A route for the two files of a result that are offered for download, and no others."""

    def file_of(result_id: str, name: str) -> FileResponse:
        try:
            result = results.load(result_id)
            return FileResponse({"scores.csv": result.csv, "record.json": result.json}[name])
        except (ForwardInfError, KeyError) as error:
            raise HTTPException(404, "There is no such file.") from error

    return file_of
