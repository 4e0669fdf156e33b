"""Who is signed in: a signed cookie, that ends with the day, at signing out, or when a password changes."""

from __future__ import annotations

import secrets
import time
from http.cookies import CookieError, SimpleCookie
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from .quota import Quota
from .users import User, Users

COOKIE = "forwardinf-session"
HOURS = 12
ATTEMPTS, ATTEMPTS_FROM = 10, 30  # to sign in at a name, and from an address
WITHIN = 15 * 60  # seconds
USER = "forwardinf.user"  # where the scope of a request holds its user


class Sessions:
    """Sessions of `users`; those that were ended are known until they would have ended by themselves."""

    def __init__(self, users: Users) -> None:
        self.users = users
        self.attempts = Quota(ATTEMPTS, WITHIN), Quota(ATTEMPTS_FROM, WITHIN)  # by name, by address; wherever it is
        self._ended: dict[str, float] = {}  # until when each has to be known

    def begin(self, user: User, scope: Scope) -> str:
        """The Set-Cookie header by which a browser is signed in."""
        session = [user.name, self.users.stamp(user.name), secrets.token_hex(16)]
        return _cookie(str(self._signer.dumps(session)), HOURS * 3600, scope)

    def end(self, scope: Scope) -> str:
        """The Set-Cookie header by which a browser is signed out; the cookie it had is worth nothing any more."""
        now = time.time()
        self._ended = {key: until for key, until in self._ended.items() if until > now}
        if session := self._session(scope):
            self._ended[session[2]] = now + HOURS * 3600
        return _cookie("", 0, scope)

    def user(self, scope: Scope) -> User | None:
        """Who sends a request; None where nobody is signed in."""
        session = self._session(scope)
        if session is None or session[2] in self._ended or session[1] != self.users.stamp(session[0]):
            return None
        return self.users.get(session[0])

    @property
    def _signer(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self.users.secret, salt=COOKIE)

    def _session(self, scope: Scope) -> tuple[str, str, str] | None:
        """Name, stamp of the password, and id."""
        try:
            cookie = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(COOKIE)
            name, stamp, key = self._signer.loads(cookie.value if cookie else "", max_age=HOURS * 3600)
            return str(name), str(stamp), str(key)
        except (BadData, CookieError, ValueError, TypeError):
            return None


def user_of(request: Any) -> User | None:  # noqa: ANN401  # Starlette's request, or Gradio's, which holds one
    """Who is signed in; None where the app asks nobody to, and everyone may do everything."""
    asked = getattr(request, "request", None) or request
    return asked.scope.get(USER)


def name_of(request: Request) -> str | None:
    """The name of who is signed in."""
    user = user_of(request)
    return user.name if user else None


def _cookie(value: str, seconds: int, scope: Scope) -> str:
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
