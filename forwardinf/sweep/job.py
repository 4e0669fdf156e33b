"""A round of a sweep as a task that any machine with the model and the index can do, and who does it."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..draws import DrawPlan
from ..types import Draws, LatentBatch, ModelSpec
from .rounds import Measured, Round

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.protocol import AttributableModel


class Measure(Protocol):
    """The part of a method that a sweep needs."""

    def measure(
        self, model: AttributableModel, state: object, one_round: Round, batch: LatentBatch, draws: Draws
    ) -> Tensor:
        """What a round takes from a batch, `[b columns ...]` in float32 on the CPU; of each example by itself."""


@dataclass(frozen=True)
class IndexRef:
    """Which index a job reads, for an executor on another machine, which has to open it."""

    folder: str
    fingerprint: str


@dataclass(frozen=True)
class SweepJob:
    """One round of a method for one query; it can be pickled, and holds all that decides what it measures.

    Threads of the process that made it have model and index open already.
    """

    model: ModelSpec
    index: IndexRef
    method: Measure  # with its settings
    state: object  # what the method's `prepare` learned from the query
    round: Round
    plan: DrawPlan  # the index's


class Executor(Protocol):
    """Where a sweep runs."""

    def run(self, jobs: Iterable[SweepJob]) -> Generator[Measured, None, None]:
        """What the jobs measure, in tasks of any size and order.

        Closing the generator cancels what has not begun and waits for what has; the model is as before after that.
        """
