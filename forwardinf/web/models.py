"""The models of an app's indexes: each is loaded when it is first needed, and gives its memory back to the next."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Protocol

from ..attribution.attributor import Attributor


class Loading(Protocol):
    """An attributor that is there, or will be once it is asked for; a future of one is such a thing."""

    def result(self) -> Attributor:
        """Waits until it is there; raises what loading it raised."""


class Models:
    """Holds one attributor at a time; for the model's thread alone."""

    def __init__(self) -> None:
        self._holder: _Lazy | None = None

    def lazily(self, load: Callable[[], Attributor]) -> Loading:
        """An attributor that `load` loads whenever it is asked for and is not the one that is held."""
        return _Lazy(self, load)

    def held_by(self, lazy: _Lazy) -> None:
        """Let go of the one that another index used; a sweep under way keeps its own until it ends."""
        if self._holder is not None and self._holder is not lazy:
            self._holder.forget()
            gc.collect()
        self._holder = lazy


class _Lazy:
    def __init__(self, models: Models, load: Callable[[], Attributor]) -> None:
        self._models, self._load = models, load
        self._loaded: Attributor | None = None

    def result(self) -> Attributor:
        self._models.held_by(self)  # first, so that the memory of two is never taken
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def forget(self) -> None:
        self._loaded = None
