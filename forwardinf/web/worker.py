"""One thread that does all of the app's computing.

Gradio runs every handler in a thread of its own. OpenMP keeps a pool of threads for each thread that ever computed,
and where all of them together outnumber the cores, none waits actively any more and every parallel region starts
slowly: a sweep then does the work of 1.7 cores instead of 2. So one thread loads the model and computes, and handlers
wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import ParamSpec, TypeVar, cast

Step = TypeVar("Step")
Arguments = ParamSpec("Arguments")
Outcome = TypeVar("Outcome")


class Worker:
    """Runs what it is given in its one thread, in the order of asking; errors are raised where the outcome is due."""

    def __init__(self) -> None:
        self._here = threading.local()
        self._thread = ThreadPoolExecutor(
            1, "forwardinf-model", initializer=lambda: setattr(self._here, "worker", True)
        )

    @property
    def is_current(self) -> bool:
        """Whether this is asked in the worker's thread."""
        return hasattr(self._here, "worker")

    def start(
        self, work: Callable[Arguments, Outcome], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Future[Outcome]:
        """What `work` will return; it sees the caller's context, in which Gradio keeps where progress is shown."""
        context = copy_context()
        return self._thread.submit(lambda: context.run(work, *arguments, **named))

    def call(
        self, work: Callable[Arguments, Outcome], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Outcome:
        """What `work` returns."""
        return self.start(work, *arguments, **named).result()

    def steps(self, generator: Generator[Step, None, None]) -> Iterator[Step]:
        """What a generator yields, each step taken in the thread; it is closed there when this iterator ends."""
        ended = object()
        try:
            while (step := self.call(lambda: next(generator, ended))) is not ended:
                yield cast(Step, step)
        finally:
            self.call(generator.close)
