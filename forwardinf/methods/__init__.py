"""How a query becomes moved weights, and losses become influence; one file per method, found by its name.

A method module defines `METHOD`, a frozen dataclass of its settings that does what AttributionMethod says. Adding a
method is adding a file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InvalidRequest
from ..types import InfluenceScores, MirroredWeights, Query, SweepLosses

if TYPE_CHECKING:
    from torch import Tensor

    from ..models import AttributableModel


class AttributionMethod(Protocol):
    """A step on the query, and what the losses before and after it say."""

    def mirror(self, model: AttributableModel, query: Query, fisher: dict[str, Tensor] | None) -> MirroredWeights:
        """The moved weights of a query; the model's own are as before when this returns."""

    def scores(self, losses: SweepLosses) -> InfluenceScores:
        """The influence of every swept example; higher always means more influential."""


def load_method(name: str, **settings: object) -> AttributionMethod:
    """The method of the file `name`, with `settings` over its defaults; a setting that is None keeps its default.

    Raises InvalidRequest for an unknown method or setting, listing what there is.
    """
    known = sorted(module.name for module in iter_modules(__path__))
    if name not in known:
        raise InvalidRequest(f"There is no method “{name}”; the methods here are: {', '.join(known)}.")
    method = import_module(f"{__name__}.{name}").METHOD
    given = {key: value for key, value in settings.items() if value is not None}
    settable = [field.name for field in fields(method)]
    if unknown := sorted(given.keys() - set(settable)):
        raise InvalidRequest(f"{name} has no setting “{unknown[0]}”; its settings are: {', '.join(settable)}.")
    loaded: AttributionMethod = method(**given)
    return loaded


def settings_of(method: AttributionMethod) -> dict[str, Any]:
    """The method's name and every setting, in JSON's types."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(method)))  # type: ignore[call-overload]
    return {"name": type(method).__module__.rpartition(".")[2], **settings}
