"""The page to sign in on, and the gate that leads there from every other address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import quote, urlsplit

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..templates import render
from .bodies import BODY
from .quota import address_of
from .roles import may_view
from .sessions import USER, Sessions
from .users import LONGEST, LONGEST_NAME, User

SIGN_IN, SIGN_OUT = "/sign-in", "/sign-out"
OPEN = ("/site/", "/static/fonts/", "/favicon.ico")  # what the page to sign in on is made of
WRONG = "No user has this name and password."
ONLY_REVIEWERS = "Only a reviewer can do this. You are signed in as a viewer."


class SignIn:
    """Lets those through who are signed in, viewers only to what shows something; `shows` says that of an event."""

    def __init__(self, app: ASGIApp, sessions: Sessions, shows: Callable[[int], bool]) -> None:
        self.app, self.sessions, self.shows = app, sessions, shows
        self._by_name, self._by_address = sessions.attempts
        self._one_hash = asyncio.Semaphore()  # each takes 64 MB

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(OPEN):
            await self.app(scope, receive, send)
            return
        request, user = Request(scope, receive), self.sessions.user(scope)
        if scope["path"] == SIGN_IN:
            answer: Response | None = await self._sign_in(request)
        elif user is None:
            answer = _asked_to_sign_in(request)
        elif scope["path"] == SIGN_OUT:
            answer = _leading_to(SIGN_IN, self.sessions.end(scope)) if request.method == "POST" else _leading_to("/")
        else:
            answer = self._refusal(scope, user)
        await (answer or self.app)({**scope, USER: user}, receive, send)

    def _refusal(self, scope: Scope, user: User) -> Response | None:
        if user.role == "reviewer" or may_view(scope["method"], scope["path"], scope.get(BODY, b""), self.shows):
            return None
        return JSONResponse({"detail": ONLY_REVIEWERS}, HTTPStatus.FORBIDDEN)

    async def _sign_in(self, request: Request) -> Response:
        if request.method != "POST":
            return _page(request)
        form = await request.form()
        name, password = str(form.get("name", "")).strip()[:LONGEST_NAME], str(form.get("password", ""))[:LONGEST]
        address = address_of(request.scope)
        if wait := max(self._by_name.wait(name), self._by_address.wait(address)):
            told = f"There were too many attempts. Try again in {wait // 60 + 1} min."
            return _page(request, told, HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": str(wait)})
        self._by_name.take(name, 1)
        self._by_address.take(address, 1)
        async with self._one_hash:
            user = await asyncio.to_thread(self.sessions.users.checked, name, password)
        if user is None:
            return _page(request, WRONG, HTTPStatus.UNAUTHORIZED)
        self._by_name.forgive(name)
        return _leading_to(_next(request.query_params), self.sessions.begin(user, request.scope))


def _asked_to_sign_in(request: Request) -> Response:
    """A person is led to the page; a program, or a page that was open, is told."""
    if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": "Sign in first."}, HTTPStatus.UNAUTHORIZED)
    url = request.url
    wanted = url.path + (f"?{url.query}" if url.query else "")
    return _leading_to(SIGN_IN + ("" if wanted == "/" else f"?next={quote(wanted, safe='/')}"))


def _page(
    request: Request, problem: str = "", status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    asked = f"{SIGN_IN}?next={quote(_next(request.query_params), safe='/')}"
    page = render("sign_in.html", root=request.scope.get("root_path", ""), action=asked, problem=problem)
    return HTMLResponse(page, status, {"Cache-Control": "no-store", **(headers or {})})


def _next(query: QueryParams) -> str:
    """The page that was wanted; never one of another site."""
    wanted = query.get("next", "/")
    own = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if own and not urlsplit(wanted).netloc else "/"


def _leading_to(url: str, cookie: str | None = None) -> Response:
    answer = RedirectResponse(url, HTTPStatus.SEE_OTHER)
    if cookie is not None:
        answer.headers["Set-Cookie"] = cookie
    return answer
