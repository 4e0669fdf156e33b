"""What stands between the network and the pages: who may reach them, with how much, and what browsers may do with them.

Each is an ASGI application around the next one: headers, hosts and origins, bodies and uploads, sign-in.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp

from ...config import Settings
from ...errors import InvalidSettings
from .bodies import MB, Bodies
from .headers import SecurityHeaders
from .hosts import Hosts
from .quota import Quota
from .roles import for_viewers, is_for_viewers
from .sessions import Sessions, name_of, user_of
from .sign_in import SignIn
from .users import User, Users

__all__ = [
    "Quota",
    "Sessions",
    "User",
    "access",
    "for_viewers",
    "guarded",
    "is_for_viewers",
    "name_of",
    "sessions_of",
    "upload_quota",
    "user_of",
]

UPLOADED_PER_HOUR = 1000 * MB  # by each visitor


def upload_quota() -> Quota:
    return Quota(UPLOADED_PER_HOUR, 3600)


def guarded(
    app: ASGIApp,
    settings: Settings,
    sessions: Sessions | None,
    shows: Callable[[int], bool],
    uploads: Quota | None = None,
) -> ASGIApp:
    """The app behind all of it; `shows` says of a handler, by its number, that it only shows something.

    `uploads` is what each visitor may upload, where several applications count together.
    """
    if sessions is not None:
        app = SignIn(app, sessions, shows)
    app = Bodies(app, uploads or upload_quota())
    app = Hosts(app, settings.host, settings.allowed_hosts)
    return SecurityHeaders(app, settings.framed_by)


def sessions_of(settings: Settings) -> Sessions | None:
    """Sessions of those who may sign in, or None where nobody has to.

    Raises InvalidSettings where others can reach the app, but there is nobody who may sign in.
    """
    if not settings.asks_to_sign_in:
        return None
    try:
        return Sessions(Users.open(settings.users_file))
    except InvalidSettings as error:
        if settings.users is not None:
            raise
        raise InvalidSettings(
            f"At “{settings.host}” others can reach the app, so they have to sign in. {error} Or let everyone use it "
            "with --insecure (FORWARDINF_INSECURE=1)."
        ) from error


def access(settings: Settings, sessions: Sessions | None) -> str:
    """One line: who may use the app."""
    if sessions is not None:
        count = len(sessions.users.named())
        return f"Sign-in is on: {count} user{'' if count == 1 else 's'} in {sessions.users.path.name}."
    if settings.is_local:
        return "Only this machine can reach it, without sign-in."
    return f"Without sign-in: whoever can reach {settings.host} may use it (--insecure)."
