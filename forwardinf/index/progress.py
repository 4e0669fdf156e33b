"""How far a walk through examples is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Element = TypeVar("Element")


@dataclass
class Watched(Generic[Element]):
    """A sequence that says how far those who walk through it are, in all of the `passes` that they make."""

    elements: Sequence[Element]
    on_progress: Callable[[int, int], None]  # done, total
    passes: int = 1
    _done: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Element]:
        self._report()
        for element in self.elements:
            yield element
            self._done += 1
            self._report()

    def _report(self) -> None:
        self.on_progress(self._done, len(self.elements) * self.passes)
