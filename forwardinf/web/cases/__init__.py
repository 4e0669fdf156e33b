"""The reviewers' pages: cases, their pictures, and what people decide of them.

Plain HTML with scripts of its own beside the Gradio pages: a decision has to be acknowledged before the next one is
sent, addresses have to name a case and a picture, and a picture has to follow another within a key press.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from ...errors import ForwardInfError, InvalidRequest, MissingAsset
from ..frame import Navigation
from . import actions, files, pages
from .desk import Desk

__all__ = ["Desk", "Navigation", "add_to"]

STATUS: dict[type[ForwardInfError], int] = {InvalidRequest: 400, MissingAsset: 404}  # others are the server's: 500


def add_to(app: FastAPI, desk: Desk) -> None:
    """Add the pages of cases to an application, which then tells what it refuses in words: a page, or JSON."""
    for part in (actions, files, pages):
        app.include_router(part.routes(desk))
    shown = pages.Pages(desk)

    async def told(request: Request, error: Exception) -> Response:
        status = STATUS.get(type(error), 500)  # type: ignore[arg-type]
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(shown.frame(request).refused(str(error)), status)
        return JSONResponse({"detail": str(error)}, status)

    app.add_exception_handler(ForwardInfError, told)
