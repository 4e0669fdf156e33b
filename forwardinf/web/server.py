"""An HTTP server on a port that is taken before anything slow begins, and that ends cleanly on a signal.

Gradio's `launch` would ask its own address over HTTP, which fails behind a proxy; mounted in a FastAPI app it does not.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from ..errors import InvalidSettings

PATIENCE = 3  # seconds that open connections have to end after a signal
KEPT_OPEN = 75  # seconds that a connection without requests is: browsers, and proxies, count on about as many


class Server(uvicorn.Server):
    """Serves `app` on `listener`; `on_end` is called first when it is to end, so that open streams can close."""

    def __init__(self, app: ASGIApp, listener: socket.socket, on_end: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEPT_OPEN,
            timeout_graceful_shutdown=PATIENCE,
        )
        super().__init__(config)
        self._listener, self._on_end = listener, on_end

    def stop(self) -> None:
        """End soon; may be called from any thread."""
        self.should_exit = True

    def run_until_signalled(self) -> None:
        """Serve until `stop` or a signal; uvicorn then raises the signal again."""
        self.run(sockets=[self._listener])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_end()
        await super().shutdown(sockets)


@contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Run what is within until SIGINT or SIGTERM, clean up as for an exception, and end the process.

    It does not wait for the process's threads: one may be loading a model for minutes.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        yield
    except SystemExit:
        sys.stdout.flush()
        os._exit(0)


def listening_on(host: str, port: int) -> socket.socket:
    """A socket that listens; raises InvalidSettings where the address or the port cannot be had."""
    address = host.strip("[]")
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((address, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InvalidSettings(f"Port {port} is in use. Choose another with --port or FORWARDINF_PORT.") from error
        raise InvalidSettings(
            f"The app cannot listen on “{host}”, port {port} ({error.strerror or error}). "
            "Choose another address with --host and --port, or FORWARDINF_HOST and FORWARDINF_PORT."
        ) from error


def url_of(host: str, port: int) -> str:
    """The address to open in a browser on this machine."""
    name = {"0.0.0.0": "localhost", "::": "localhost"}.get(host.strip("[]"), host)
    return f"http://[{name}]:{port}/" if ":" in name and not name.startswith("[") else f"http://{name}:{port}/"
