"""What browsers are told of every answer: that nothing is fetched from elsewhere, framed, guessed or shared."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio writes scripts and styles into its pages and compiles the scripts of HTML components, so both have to be let.
PAGE = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
FILE = {"default-src": "'none'", "style-src": "'unsafe-inline'", "sandbox": ""}  # opened by itself, it runs nothing
FILES = ("/results/", "/thumbnails/", "/gradio_api/file=", "/gradio_api/file/")
PRIVATE = ("/results/",)  # kept by no cache
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class SecurityHeaders:
    """Adds the headers to every answer, and takes away those by which Gradio lets other sites read it.

    `framed_by` names a site that may show the app in a frame; by default none may.
    """

    def __init__(self, app: ASGIApp, framed_by: str | None = None) -> None:
        self.app = app
        self.always = dict(ALWAYS) if framed_by else {**ALWAYS, "X-Frame-Options": "DENY"}
        ancestors = {"frame-ancestors": framed_by or "'none'"}
        self.page, self.file = _policy({**PAGE, **ancestors}), _policy({**FILE, **ancestors})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add(MutableHeaders(scope=message), path)
            await send(message)

        await self.app(scope, receive, sending)

    def _add(self, headers: MutableHeaders, path: str) -> None:
        for name in [name for name in headers if name.startswith("access-control-")]:
            del headers[name]
        headers.update(self.always)
        headers["Content-Security-Policy"] = self.file if path.startswith(FILES) else self.page
        if path.startswith(PRIVATE):
            headers["Cache-Control"] = "private, no-store"


def _policy(directives: dict[str, str]) -> str:
    return "; ".join(f"{name} {value}".strip() for name, value in directives.items())
