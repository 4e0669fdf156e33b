"""How computing is told to stop: whoever waits for a result says when it is not wanted any more, and work looks there.

for step in heeded(steps(), event.is_set):
    ...

Whatever runs inside a step calls `check` where it can be left at once: between the evaluations of a line search, from
block to block of a network, before each part that is read. So nothing in between has to pass the wish on. It is a
context variable: a thread that works for another one runs in a copy of its context.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import TypeVar

from .errors import StopRequested

Step = TypeVar("Step")
_unwanted: ContextVar[Callable[[], bool] | None] = ContextVar("unwanted", default=None)


@contextmanager
def heeding(unwanted: Callable[[], bool]) -> Iterator[None]:
    """Context manager in which `check` raises StopRequested as soon as `unwanted()` is true."""
    token = _unwanted.set(unwanted)
    try:
        yield
    finally:
        _unwanted.reset(token)


def is_heeded() -> bool:
    """Whether there is anything to look at; where there is not, `check` never raises."""
    return _unwanted.get() is not None


def check() -> None:
    """Raise StopRequested where the result of what is being computed is not wanted any more."""
    unwanted = _unwanted.get()
    if unwanted is not None and unwanted():
        raise StopRequested("What was being computed was stopped before it was finished.")


def heeded(steps: Generator[Step, None, None], unwanted: Callable[[], bool]) -> Generator[Step, None, None]:
    """The steps of a generator, `unwanted` being heeded within each; closed where they end or StopRequested is raised.

    Between two steps it is not heeded, so they may be taken in contexts of their own.
    """
    ended = object()
    with closing(steps):
        while True:
            with heeding(unwanted):
                check()
                step = next(steps, ended)
            if step is ended:
                return
            yield step  # type: ignore[misc]
