"""How much each visitor took within the last while."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.types import Scope

PARTS = 60  # that a while is counted in


class Quota:
    """At most `most` of something to each visitor within `seconds`; for one thread."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self._part, self._clock = most, seconds / PARTS, clock
        self._taken: dict[str, Counter[int]] = {}  # by visitor, how much in which part of time

    def take(self, visitor: str, amount: int) -> None:
        """Note that a visitor took so much."""
        if amount:
            self._taken.setdefault(visitor, Counter())[self._now] += amount

    def forgive(self, visitor: str) -> None:
        """Forget what a visitor took."""
        self._taken.pop(visitor, None)

    def wait(self, visitor: str, amount: int = 1) -> int:
        """Seconds until the visitor may take so much more; 0 where it is at once, the whole while where it is never."""
        self._forget()
        taken = self._taken.get(visitor, Counter())
        over, now = sum(taken.values()) + amount - self.most, self._clock()
        if over <= 0:
            return 0
        for part in sorted(taken):
            over -= taken[part]
            if over <= 0:
                return int((part + PARTS) * self._part - now) + 1
        return int(PARTS * self._part)

    @property
    def _now(self) -> int:
        return int(self._clock() / self._part)

    def _forget(self) -> None:
        since = self._now - PARTS
        for visitor, taken in list(self._taken.items()):
            for part in [part for part in taken if part <= since]:
                del taken[part]
            if not taken:
                del self._taken[visitor]


def address_of(scope: Scope) -> str:
    """Where a request comes from; of IPv6 the network that a household or a company has to itself."""
    host = (scope.get("client") or ("",))[0]
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else host
