"""The indexes of an app: the first at its address, each of the others below /at/<name>, with pages of its own.

They share what belongs to the server: kept answers, runs, cases, the model's thread and its lock. Each is an
application that knows nothing of the others but where they are, so that one can be added while others are in use.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ForwardInfError
from .served import Served

AT = re.compile(r"(/at/[a-z0-9-]+)(/.*)?")


@dataclass(frozen=True)
class Place:
    """An index with its application."""

    served: Served
    pages: FastAPI  # whose lifespan has to be entered before it answers
    app: ASGIApp  # the same, behind what keeps strangers within bounds


@asynccontextmanager
async def nothing_more(_: FastAPI) -> AsyncIterator[None]:
    """The lifespan of an index that is not the first."""
    yield


class Shelf:
    """Leads each request to the index that its address names."""

    def __init__(self, first: Place) -> None:
        self.first = first
        self._others: dict[str, Place] = {}  # by prefix
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._loop = asyncio.get_running_loop()
            async with self._open:
                for place in self._others.values():
                    await self._enter(place)
                await self.first.app(scope, receive, send)
            return
        named = AT.fullmatch(scope.get("path", ""))
        place = self._others.get(named[1], self.first) if named else self.first
        if named and place is not self.first:
            path = named[2] or "/"
            scope = {**scope, "path": path, "raw_path": path.encode(), "root_path": scope["root_path"] + named[1]}
        await place.app(scope, receive, send)

    def add(self, place: Place) -> None:
        """From now on the index answers, and shows in the switcher; may be called from any thread while others do."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._enter(place), self._loop).result()
        self._others[place.served.prefix] = place
        self.first.served.beside.append(place.served)

    async def _enter(self, place: Place) -> None:
        await self._open.enter_async_context(place.pages.router.lifespan_context(place.pages))


class Elsewhere:
    """Leads a link to an answer, or to a run, of another index to that index's page.

    Up to here an index's paths begin at its own address, so that one guard knows those of all; its pages are given the
    whole path, as ASGI has it.
    """

    def __init__(self, app: ASGIApp, served: Served) -> None:
        self.app, self.served = app, served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        front = scope["type"] == "http" and (scope["method"], scope["path"]) == ("GET", "/")
        if front and len(self.served.beside) > 1:
            request = Request(scope)
            query = dict(request.query_params)
            other = await asyncio.to_thread(_asked_of, self.served, query)
            if other is not None and other is not self.served:
                root = self.served.root_of(request)
                app = RedirectResponse(f"{root}{other.prefix}/?{urlencode(query)}")
        if scope["type"] == "http" and self.served.prefix:
            path = self.served.prefix + scope["path"]
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await app(scope, receive, send)


def _asked_of(served: Served, query: dict[str, str]) -> Served | None:
    """The index that the answer or the run in an address is of; None where that is not known."""
    found: Callable[[], str]
    if "result" in query:
        found = lambda: served.results.load(query["result"]).record.index.fingerprint  # noqa: E731
    elif "run" in query:
        found = lambda: served.runs.get(query["run"]).record.asked.index  # noqa: E731
    else:
        return None
    try:
        return served.of_index(found())
    except ForwardInfError:
        return None


def prefix_for(name: str, taken: list[Served]) -> str:
    """An address for an index of this name that no other has."""
    base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "index"
    used = {served.prefix for served in taken}
    names = (f"/at/{base}" + (f"-{number}" if number > 1 else "") for number in range(1, len(used) + 2))
    return next(prefix for prefix in names if prefix not in used)
