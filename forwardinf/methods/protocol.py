"""What a method is, and what it sees of the training images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from ..scoring.score import Changes
from ..sweep.rounds import Round
from ..sweep.table import Table
from ..types import Draws, LatentBatch, Query

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image
    from torch import Tensor

    from ..draws import DrawPlan
    from ..gradients.curvature import WeightCurvature
    from ..models.protocol import AttributableModel


class TrainingSet(Protocol):
    """What a method may know about the indexed images, whichever of them a sweep visits."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the index without its null: of all that a method measures on."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Every indexed image, in the index's order."""

    @property
    def trained(self) -> frozenset[str]:
        """Those that the model was trained on."""

    @property
    def plan(self) -> DrawPlan:
        """The draws at which the index's base losses were taken, and a sweep measures."""

    @property
    def cache(self) -> Path | None:
        """A folder for what is the same for every query; None keeps nothing."""

    @property
    def mean_latents(self) -> Tensor:
        """Of the images trained on, `[c h w]`."""

    def fisher(self) -> dict[str, Tensor]:
        """The diagonal Fisher of the tunable weights, by name, where the model is; not to be written to."""

    def kronecker(self) -> dict[str, WeightCurvature]:
        """Their Fisher in Kronecker-factored eigenbases; raises IndexMismatch where the index was built without."""

    def examples(self, example_ids: Iterable[str]) -> LatentBatch:
        """These images as the model sees them, in the index's order."""

    def similarities(self, picture: Image) -> Tensor:
        """How similar each of `ids` is to an RGB picture, `[n]`."""


class QueryState(Protocol):
    """What a method learned from a query before the sweep."""

    @property
    def rounds(self) -> Sequence[Round]:
        """What the sweep measures for it, most informative first, as progress is shown after each task."""


@dataclass(frozen=True)
class Mirrored:
    """Where gradient steps on a query moved the tunable weights, and what that did to the query's loss."""

    rounds: tuple[Round, ...]
    step_sizes: tuple[float, ...]  # factor of the (preconditioned) gradient, one per step
    loss_before: float
    loss_after: float


@dataclass(frozen=True)
class Unmoved:
    """Base of the state of a method that sweeps once, under the model's own weights."""

    rounds: tuple[Round, ...] = field(kw_only=True)


State = TypeVar("State", bound=QueryState)


class AttributionMethod(Protocol[State]):
    """`prepare`, `measure` and `changes` are called in this order; `state` is what the method's `prepare` returned.

    Methods extend MethodSettings, which has the rest.
    """

    # What an index has that is built for this method, and whether scores are held against a null by default.
    index_draws: ClassVar[int]
    antithetic: ClassVar[bool]
    against_null: ClassVar[bool]

    @classmethod
    def method_name(cls) -> str:
        """The name of the method, which is that of its file."""

    def model_dump(self, *, mode: str = ...) -> dict[str, Any]:
        """Every setting."""

    def effective(self) -> dict[str, Any]:
        """The settings that differ from their defaults and decide a score."""

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> State:
        """What is done once for a query; the model's weights are as before when this returns."""

    def measure(
        self, model: AttributableModel, state: State, one_round: Round, batch: LatentBatch, draws: Draws
    ) -> Tensor:
        """What a round takes from a batch, `[b columns ...]` in float32 on the CPU; of each example by itself.

        The weights are moved by the round's deltas meanwhile; `draws` are the round's.
        """

    def changes(self, state: State, table: Table) -> Changes:
        """What moving the weights did to every image that was measured; higher always means more influential."""


def settings_of(method: AttributionMethod) -> dict[str, Any]:
    """The method's name and every setting, in JSON's types."""
    return {"name": method.method_name(), **method.model_dump(mode="json")}
