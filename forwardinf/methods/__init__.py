"""How a query and what a sweep measures become influence; one file per method, found by its name.

A method module defines `METHOD`, a frozen dataclass of its settings that does what AttributionMethod says. Adding a
method is adding a file. A method sees the model as an AttributableModel, and what is known of the training images as a
TrainingSet.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_type_hints

from ..errors import InvalidRequest
from ..types import InfluenceScores, LatentBatch, Query, SweepLosses

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image
    from torch import Tensor

    from ..curvature import WeightCurvature
    from ..draws import DrawPlan
    from ..models import AttributableModel


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


KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
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


def load_method(name: str, **settings: object) -> AttributionMethod:
    """The method of the file `name`, with `settings` over its defaults; a setting that is None keeps its default.

    Raises InvalidRequest for an unknown method or setting, listing what there is, and for a value it cannot have.
    """
    known = sorted(module.name for module in iter_modules(__path__))
    if name not in known:
        raise InvalidRequest(f"There is no method “{name}”; the methods here are: {', '.join(known)}.")
    method = import_module(f"{__name__}.{name}").METHOD
    given = {key: value for key, value in settings.items() if value is not None}
    settable = [setting.name for setting in fields(method)]
    if unknown := sorted(given.keys() - set(settable)):
        raise InvalidRequest(f"{name} has no setting “{unknown[0]}”; its settings are: {', '.join(settable)}.")
    kinds = get_type_hints(method)
    for key, value in given.items():
        kind = kinds[key] if kinds[key] in KINDS else str  # one of several words
        if not _is_a(kind, value):
            raise InvalidRequest(f"The setting “{key}” of {name} is {json.dumps(value)}; it must be {KINDS[kind]}.")
    loaded: AttributionMethod = method(**given)
    return loaded


def _is_a(kind: type, value: object) -> bool:
    """Whether a value is of a kind; true is no number here, and a whole number is a number."""
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    return type(value) is kind


def settings_of(method: AttributionMethod) -> dict[str, Any]:
    """The method's name and every setting, in JSON's types."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(method)))  # type: ignore[call-overload]
    return {"name": type(method).__module__.rpartition(".")[2], **settings}


def kept_file(training_set: TrainingSet, model: AttributableModel, name: str, *settings: object) -> Path | None:
    """Where a method keeps what is the same for every query, named by all that decides it; None to keep nothing."""
    decisive = (*settings, model.fingerprint, model.spec.tunable, model.spec.dtype, training_set.fingerprint)
    digest = hashlib.sha256(json.dumps([name, *decisive]).encode()).hexdigest()[:16]
    return training_set.cache and training_set.cache / f"{name}-{digest}.npy"
