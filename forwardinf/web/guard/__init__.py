"""What stands between the network and the pages: who may reach them, with how much, and what browsers may do with them.

Each is an ASGI application around the next one: hosts and origins, headers, bodies and uploads.
"""

from __future__ import annotations

from starlette.types import ASGIApp

from ...config import Settings
from .bodies import MB, Bodies
from .headers import SecurityHeaders
from .hosts import Hosts
from .quota import Quota

UPLOADED_PER_HOUR = 1000 * MB  # by each visitor


def guarded(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The app behind all of it, with the outermost last."""
    app = Bodies(app, Quota(UPLOADED_PER_HOUR, 3600))
    app = Hosts(app, settings.host, settings.allowed_hosts)
    return SecurityHeaders(app, settings.framed_by)
