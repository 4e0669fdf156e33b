"""How much may be sent: a little to every route, more to that of uploads, and of those no more than a share an hour."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import folders
from .quota import Quota, address_of

MB = 1_000_000
MOST_BODY = 1 * MB  # a filled-in form is a few kilobytes
MOST_UPLOADED = 200 * MB  # in one request; Gradio bounds each file in it
DEEPEST, MOST_LISTS = 32, 20_000  # of JSON's lists and objects: in each other, and altogether
PATIENCE = 30.0  # seconds for a body that is no upload to arrive
UPLOAD = re.compile(r"/gradio_api/upload/?|/cases/\d+/pictures|/build/zip")
BODY = "forwardinf.body"  # where the scope holds a body that was read
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


class Bodies:
    """Refuses bodies that are larger, or nested deeper, than any page sends, before anything reads them.

    What an upload may hold is bounded for each request, and for each visitor in an hour by `quota`.
    """

    def __init__(self, app: ASGIApp, quota: Quota) -> None:
        self.app, self.quota = app, quota

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # no page opens one
            await send({"type": "websocket.close"})
        elif scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
        elif UPLOAD.fullmatch(scope["path"]):
            await self._upload(scope, receive, send)
        else:
            await self._form(scope, receive, send)

    async def _form(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if declared(scope) > MOST_BODY:
                raise _Refused(413, _too_large(MOST_BODY))
            body = await _read(receive)
        except _Refused as refused:
            await refused.response(scope, receive, send)
            return
        await self.app({**scope, BODY: body}, _replayed(body, receive), send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        visitor, size = address_of(scope), 0
        refused = self._refusal(visitor, declared(scope))

        async def counting() -> Message:
            nonlocal size, refused
            message = await receive()
            new = len(message.get("body", b""))
            size += new
            if new:
                refused = self._refusal(visitor, new, size)
                self.quota.take(visitor, new)
            return {"type": "http.disconnect"} if refused else message

        async def sending(message: Message) -> None:
            if not refused:  # what the route says of a body that ended early is not said
                await send(message)

        if not refused:
            await asyncio.to_thread(folders.clear_cut_off_uploads)
            with suppress(ClientDisconnect):
                await self.app(scope, counting, sending)
        if refused:
            await refused.response(scope, receive, send)

    def _refusal(self, visitor: str, new: int, size: int = 0) -> _Refused | None:
        if max(new, size) > MOST_UPLOADED:
            return _Refused(413, f"{_too_large(MOST_UPLOADED)} Upload fewer files at a time.")
        if wait := self.quota.wait(visitor, max(new, 1)):
            later = f"Try again in {wait // 60 + 1} min."
            return _Refused(429, f"This is more than may be uploaded in an hour. {later}", wait)
        return None


class _Refused(Exception):
    def __init__(self, status: int, message: str, wait: int | None = None) -> None:
        later = {} if wait is None else {"Retry-After": str(wait)}
        self.response = PlainTextResponse(message, status, {"Connection": "close", **later})


def declared(scope: Scope) -> int:
    """How many bytes a request says that it brings; 0 where it does not say."""
    length = Headers(scope=scope).get("content-length", "")
    return int(length) if length.isdecimal() else 0


def is_tangled(body: bytes) -> bool:
    """Whether JSON is nested deeper, or made of more lists and objects, than any page sends."""
    depth = opened = 0
    for token in _TOKENS.finditer(body):
        first = token.group()[:1]
        if first in b"[{":
            depth, opened = depth + 1, opened + 1
            if depth > DEEPEST or opened > MOST_LISTS:
                return True
        elif first != b'"':
            depth -= 1
    return False


async def _read(receive: Receive) -> bytes:
    """A body that is no upload; raises _Refused where it is too large, too slow or too nested."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MOST_BODY:
                    raise _Refused(413, _too_large(MOST_BODY))
                if not message.get("more_body"):
                    break
    except TimeoutError:
        raise _Refused(408, "The request did not arrive in time.") from None
    body = b"".join(parts)
    if is_tangled(body):
        raise _Refused(400, "The request is nested too deeply, or made of too many parts.")
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A channel that gives `body`, and then what `receive` does: that the client has gone."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _too_large(most: int) -> str:
    return f"The request is larger than {most // MB} MB."
