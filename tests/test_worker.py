from __future__ import annotations

import threading
from collections.abc import Generator
from contextvars import ContextVar

import pytest

from forwardinf.web.worker import Worker


def test_all_work_is_done_in_one_thread_that_is_not_the_caller():
    worker = Worker()

    def counting() -> Generator[int, None, None]:
        yield threading.get_ident()
        yield threading.get_ident()

    seen = {worker.call(threading.get_ident), *worker.steps(counting())}

    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_an_error_reaches_the_caller_and_the_next_call_is_served():
    worker = Worker()

    def failing() -> Generator[int, None, None]:
        yield 1
        raise ValueError("no more")

    steps = worker.steps(failing())
    assert next(steps) == 1
    with pytest.raises(ValueError, match="no more"):
        next(steps)
    assert worker.call(sum, [1, 2]) == 3


def test_a_generator_that_is_left_early_is_closed_in_the_thread():
    worker, closed_in = Worker(), []

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                yield 0
        finally:
            closed_in.append(threading.get_ident())

    steps = worker.steps(endless())
    next(steps)
    steps.close()

    assert closed_in == [worker.call(threading.get_ident)]


def test_work_sees_the_context_of_its_caller():
    shown_in: ContextVar[str] = ContextVar("shown_in")
    shown_in.set("this page")

    assert Worker().call(shown_in.get) == "this page"
