"""What a viewer may have the server do. All else, uploads too, is for reviewers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TypeVar

Handler = TypeVar("Handler", bound=Callable[..., object])

_HARMLESS = re.compile(r"/(sign-out|gradio_api/(cancel|reset))/?")  # they end what the visitor began
_EVENT = re.compile(r"/gradio_api/(queue/join|run/predict)/?")
_MARK = "forwardinf_for_viewers"


def for_viewers(handler: Handler) -> Handler:
    """Mark a handler of an event as one that only shows something: it asks, keeps and decides nothing."""
    setattr(handler, _MARK, True)
    return handler


def is_for_viewers(handler: object) -> bool:
    return getattr(handler, _MARK, False)


def may_view(method: str, path: str, body: bytes, shows: Callable[[int], bool]) -> bool:
    """Whether a request only shows something; `shows` says it of the handler of an event, by its number."""
    if method in ("GET", "HEAD") or _HARMLESS.fullmatch(path):
        return True
    if not _EVENT.fullmatch(path):
        return False
    try:
        number = json.loads(body)["fn_index"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return type(number) is int and shows(number)
