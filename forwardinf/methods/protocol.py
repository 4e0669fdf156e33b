"""What a method is, and what it sees of the training images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..types import InfluenceScores, LatentBatch, Query, SweepLosses

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image
    from torch import Tensor

    from ..draws import DrawPlan
    from ..gradients.curvature import WeightCurvature
    from ..models.protocol import AttributableModel


class TrainingSet(Protocol):
    """What a method may ask about the indexed images, whichever of them a sweep visits."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 that names the index."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Every indexed image, in the index's order."""

    @property
    def trained(self) -> frozenset[str]:
        """Those that the model was trained on."""

    @property
    def plan(self) -> DrawPlan:
        """The draws at which the index's base losses were taken, and a sweep takes its own."""

    @property
    def cache(self) -> Path | None:
        """A folder for what is the same for every query; None keeps nothing."""

    @property
    def mean_latents(self) -> Tensor:
        """Of the images trained on, `[c h w]`."""

    def fisher(self) -> dict[str, Tensor]:
        """The diagonal Fisher of the tunable weights, by name."""

    def kronecker(self) -> dict[str, WeightCurvature]:
        """Their Fisher in Kronecker-factored eigenbases; raises IndexMismatch where the index was built without."""

    def examples(self, example_ids: Iterable[str]) -> LatentBatch:
        """These images as the model sees them, in the index's order."""

    def similarities(self, picture: Image) -> Tensor:
        """How alike each of `ids` looks to an RGB picture, `[n]`."""


class QueryState(Protocol):
    """What a method learned from a query before the sweep."""

    @property
    def deltas(self) -> dict[str, Tensor]:
        """By how much the sweep moves the tunable weights, by name; empty leaves them alone."""

    @property
    def draws(self) -> range | None:
        """The draws of the index's plan that the sweep takes; None takes all."""

    @property
    def then(self) -> QueryState | None:
        """What the sweep goes over all images with once more after this; None where once is enough."""


@dataclass(frozen=True)
class Unmoved:
    """Base of the state of a method that sweeps under the model's own weights."""

    deltas: dict[str, Tensor] = field(default_factory=dict, init=False)
    draws: None = field(default=None, init=False)
    then: None = field(default=None, init=False)


State = TypeVar("State", bound=QueryState)


class AttributionMethod(Protocol[State]):
    """Three questions, asked in this order; `state` is whatever the method's own `prepare` returned."""

    def prepare(self, model: AttributableModel, query: Query, training_set: TrainingSet) -> State:
        """What is done once for a query; the model's weights are as before when this returns."""

    def measure(self, model: AttributableModel, state: State, batch: LatentBatch, plan: DrawPlan) -> Tensor:
        """What the sweep takes from a batch, `[b ...]` in float32 on the CPU; of each example by itself.

        `plan` has the draws that the state wants.
        """

    def scores(self, state: State, losses: SweepLosses) -> InfluenceScores:
        """The influence of every swept example; higher always means more influential."""
