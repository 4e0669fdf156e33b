"""Which names the app answers to, and whose pages may ask something of it.

A page elsewhere can make its own name point to this machine (DNS rebinding) and then read the app as if it were its
own; it cannot change that the browser names the host it believes to ask. An address in numbers cannot be rebound.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

READING = ("GET", "HEAD")  # what another page may lead a browser to, by a link
OTHER_NAME = (
    "The app does not answer to the name “{name}”. If it is served under that name, start it with --allow-host {name}, "
    "or set FORWARDINF_ALLOW_HOST."
)
OTHER_SITE = "This was asked by a page of another site, so it was not done."


class Hosts:
    """Refuses requests to other names than this machine's, that of `host` it listens on and those `allowed`.

    And changes that a page of another site asks for.
    """

    def __init__(self, app: ASGIApp, host: str, allowed: Iterable[str] = ()) -> None:
        self.app, self.allowed = app, frozenset(map(_plain, allowed))
        self.names = self.allowed.union(map(_plain, ("localhost", socket.gethostname(), host)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope["method"], Headers(scope=scope))):
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        name = name_of(host)
        if not (_is_address(name) or name in self.names):
            shown = "".join(one for one in name if one.isalnum() or one in "-._")[:100]
            return PlainTextResponse(OTHER_NAME.format(name=shown), 421)
        if method not in READING and self._is_elsewhere(headers.get("origin"), host):
            return PlainTextResponse(OTHER_SITE, 403)
        return None

    def _is_elsewhere(self, origin: str | None, host: str) -> bool:
        """Whether a browser says that a page of another host or port asks; programs name no origin.

        Behind a proxy that changes the host, the page's is one of those allowed.
        """
        if origin is None:
            return False
        try:
            asking = urlsplit(origin).netloc
        except ValueError:
            return True
        return asking.lower() != host.lower() and name_of(asking) not in self.allowed


def name_of(host: str) -> str:
    """A Host header without its port, in lower case; empty where it is no such header."""
    try:
        return _plain(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return ""


def _plain(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False
