"""What surrounds the pages: titles, previews of links, icons, files of kept results, the page for a wrong address."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from gradio.routes import templates as gradio_templates
from jinja2 import ChoiceLoader, DictLoader
from starlette.staticfiles import StaticFiles

from .. import __version__
from ..errors import ForwardInfError
from ..index.store import Index
from ..index.thumbnails import Thumbnails
from ..records.csv import credits_as_csv
from ..records.store import RecordStore
from .served import Served
from .templates import render, source_of

NAME = "Forward-INF"
STATIC = Path(__file__).with_name("static")
PAGE = "frontend/index.html"  # Gradio's template of every page
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Head:
    """What a browser's tab, a search engine and a preview of a link show of a page."""

    title: str
    description: str


def routes(served: Served, lifespan: Lifespan) -> FastAPI:
    """An application that serves icons, thumbnails and the files of kept results; pages are to be added to it."""
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, exception_handlers=ERRORS)
    app.add_api_route("/results/{result_id}/{name}", _files_of(served.results))
    app.add_api_route("/run/{run_id}", lambda run_id: RedirectResponse(f"../?{urlencode({'run': run_id})}"))
    app.add_api_route("/thumbnails/{name}", _thumbnail_of(served.index.thumbnail_files))
    app.add_api_route("/credits.csv", _credits_of(served.index))
    app.add_api_route("/indexes.json", _listed(served))
    app.add_api_route("/favicon.ico", lambda: FileResponse(STATIC / "favicon.ico"))
    app.mount("/site", StaticFiles(directory=STATIC))
    return app


def set_heads(heads: Mapping[str, Head]) -> None:
    """Give each page, by its path, a title and a preview in place of Gradio's, which are the same for all."""
    environment = gradio_templates.env
    assert environment.loader is not None  # it loads Gradio's templates from its package
    if "forwardinf" not in environment.globals:
        page, _, _ = environment.loader.get_source(environment, PAGE)
        environment.loader = ChoiceLoader([DictLoader({PAGE: _with_our_head(page)}), environment.loader])
    environment.globals["forwardinf"] = {"name": NAME, "heads": heads, "version": __version__}


def _with_our_head(page: str) -> str:
    """Gradio's template without its previews and its web app's manifest, and with our head."""
    page = re.sub(r'<meta\s+(property="og:|name="twitter:)[^>]*>|<link rel="manifest"[^>]*>', "", page)
    for place, added in (('<meta charset="utf-8" />', "head.html"), ("<gradio-app", "signed_in.html")):
        before, found, after = page.partition(place)
        ours = source_of(added)
        page = before + (f"{found}\n{ours}" if added == "head.html" else f"{ours}\n{found}") + after
    return page


async def _not_found(request: Request, error: Exception) -> Response:
    """A page for people, and JSON for programs."""
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(render("not_found.html", root=request.scope.get("root_path", ""), name=NAME), 404)
    return JSONResponse({"detail": getattr(error, "detail", "Not Found")}, 404)


ERRORS: dict[int | type[Exception], Any] = {404: _not_found}


def _thumbnail_of(thumbnails: Thumbnails) -> Callable[[str], Response]:
    """A route for the thumbnails of an index. They stay the same under their addresses, which name the index."""

    def thumbnail_of(name: str) -> Response:
        try:
            content = thumbnails.read(f"thumbnails/{name}")
        except ForwardInfError as error:
            raise HTTPException(404, "There is no such file.") from error
        return Response(content, media_type="image/webp", headers={"Cache-Control": "max-age=31536000, immutable"})

    return thumbnail_of


def _listed(served: Served) -> Callable[[Request], list[dict[str, Any]]]:
    """A route that lists the indexes of the app, for the switcher in the header."""

    def listed(request: Request) -> list[dict[str, Any]]:
        root = served.root_of(request)
        return [
            {
                "name": one.title,
                "images": len(one.index.trained),
                "url": f"{root}{one.prefix}/",
                "current": one is served,
            }
            for one in served.beside or [served]
        ]

    return listed


def _credits_of(index: Index) -> Callable[[], Response]:
    """A route for the sources of an index's images."""

    def credits() -> Response:
        saved = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(index.folder.name)}-credits.csv"}
        return Response(credits_as_csv(index.catalog), media_type="text/csv; charset=utf-8", headers=saved)

    return credits


def _files_of(results: RecordStore) -> Callable[[str, str], Response]:
    """A route for the files of a result that pages show or offer, and no others."""

    def file_of(result_id: str, name: str) -> Response:
        try:
            result = results.load(result_id)
            content, kind = {
                "scores.csv": (result.csv, "text/csv"),
                "record.json": (result.record.to_json(), "application/json"),
                "query.png": (result.picture, "image/png"),
            }[name]
        except (ForwardInfError, KeyError) as error:
            raise HTTPException(404, "There is no such file.") from error
        return Response(content, media_type=kind)

    return file_of
