"""Which stage of a build is under way, how much of it is done, and how long the rest takes; on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

EVERY = 10.0  # seconds between two lines where nobody watches


class Telling:
    """Moves a bar in a terminal; elsewhere writes a line where a stage begins and ends, and now and then in between.

    Called with a stage's name, and how much of it is done of how much; stages come one after another.
    """

    def __init__(
        self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic, every: float = EVERY
    ) -> None:
        self._out = sys.stderr if out is None else out
        self._clock, self._every = clock, every
        self._stage: str | None = None
        self._began = self._told = 0.0  # when the stage began, and when a line was written last
        self._before = 0  # what was done when it began
        self._bar: tqdm | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._begin(stage, done, total)
        elif self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif done == total or self._clock() - self._told >= self._every:
            self._line(done, total)

    def close(self) -> None:
        """Leave nothing of a bar behind."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _begin(self, stage: str, done: int, total: int) -> None:
        self.close()
        self._stage, self._before, self._began = stage, done, self._clock()
        if self._out.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, desc=stage, file=self._out, leave=False)
        else:
            self._line(done, total)

    def _line(self, done: int, total: int) -> None:
        self._told = self._clock()
        seconds, new = self._told - self._began, done - self._before
        if done == total:
            rest = f" in {spoken(seconds)}" if new else ""
        else:
            rest = f", about {spoken(seconds / new * (total - done))} left" if new > 0 else ""
        share = f" ({done / total:.0%})" if 0 < done < total else ""
        print(f"{self._stage}: {done:,} of {total:,}{share}{rest}", file=self._out, flush=True)


def spoken(seconds: float) -> str:
    """A length of time in the unit that a person would take: “8 s”, “12 min”, “3.5 h”, “4.2 days”."""
    for unit, size, digits in (("s", 1, 0), ("min", 60, 0), ("h", 3600, 1)):
        limit = {"s": 90, "min": 5400, "h": 48 * 3600}[unit]
        if seconds < limit:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 86400:.1f} days"
