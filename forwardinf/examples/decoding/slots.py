"""How many pictures are decoded at a time, and whose turn is next."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import UnreadablePicture


class DecoderSlots:
    """At most `count` decoders at a time; of the files that wait, the smallest goes next.

    Smallest first keeps an everyday upload from waiting behind a queue of large or hostile files: it waits for one
    decoder to finish, not for all of them.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: set[tuple[int, int]] = set()  # (bytes, order of arrival)
        self._arrivals = itertools.count()
        self._changed = threading.Condition()

    @contextmanager
    def one(self, size: int, timeout: float) -> Iterator[None]:
        """Hold a slot for a file of `size` bytes; raises UnreadablePicture if none is free within `timeout` seconds."""
        self._take((size, next(self._arrivals)), timeout)
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def _take(self, ticket: tuple[int, int], timeout: float) -> None:
        with self._changed:
            self._waiting.add(ticket)
            try:
                if not self._changed.wait_for(lambda: self._free and min(self._waiting) == ticket, timeout):
                    raise UnreadablePicture("could not be read yet: too many others are waiting. Try again shortly.")
                self._free -= 1
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()  # the next one may fit as well
