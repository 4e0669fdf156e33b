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
    from .journal import TaskJournal


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

    def measure(self, model: AttributableModel, batch: LatentBatch) -> Tensor:
        """What the job takes from a batch, `[b columns ...]` in float32 on the CPU.

        The weights of `model` are moved by the round's deltas already.
        """
        plan = self.plan.part(self.round.draws)
        draws = plan.draws(batch.example_ids, batch.latents.shape[1:], model.spec.device)
        values = self.method.measure(model, self.state, self.round, batch, draws)
        expected = (len(batch.example_ids), len(self.round.columns))
        assert values.shape[:2] == expected, (self.round.quantity, values.shape)
        return values

    def found(self, example_ids: tuple[str, ...], values: Tensor) -> Measured:
        """A task's result, as an executor yields it."""
        return Measured(self.round.quantity, self.round.columns, example_ids, values)


class Executor(Protocol):
    """Where a sweep runs."""

    def run(self, jobs: Iterable[SweepJob], journal: TaskJournal | None = None) -> Generator[Measured, None, None]:
        """What the jobs measure, in tasks of any order, each of as many examples as `tasks_of` says.

        Tasks that are in the journal are not measured again, and others are added to it when they are finished. Closing
        the generator cancels what has not begun; the model of this process is as before after that.
        """
