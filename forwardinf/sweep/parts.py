"""Work in as large parts as memory allows: parts are sized by what they hold, and halved on running out of memory."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from ..errors import OutOfMemory

Result = TypeVar("Result")


@dataclass
class Parts:
    """How many examples, draws or pictures are taken at once; fewer from the moment memory ran out."""

    most: int

    @classmethod
    def within(cls, limit: int, each: int) -> Parts:
        """As many as have at most `limit` pixels or latent positions together, where one has `each`; at least one."""
        return cls(max(1, limit // each))

    def over(self, count: int, work: Callable[[slice], Result]) -> Iterator[tuple[slice, Result]]:
        """What `work` makes of each part of `count`, in order.

        Raises OutOfMemory where memory does not suffice for a single one.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + self.most, count))
            try:
                result = work(part)
            except torch.OutOfMemoryError as error:
                traceback.clear_frames(error.__traceback__)  # they hold all that the failed call had allocated
                if part.stop - start == 1:
                    raise OutOfMemory(TOO_SMALL) from error
                self.most = min(self.most, (part.stop - start) // 2)
                continue
            start = part.stop
            yield part, result


TOO_SMALL = (
    "The device ran out of memory on a single picture at a single draw. Try float16 (an index built with --dtype "
    "float16), fewer tunable weights (--tunable “cross-attention k,v”), or end what else uses the device's memory."
)
