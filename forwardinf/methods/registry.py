"""Methods, found by name; the settings of one; and where it keeps what is the same for every query.

A method module defines `METHOD`, a frozen dataclass of its settings that does what AttributionMethod says. Adding a
method is adding a file.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, get_type_hints

from ..errors import InvalidRequest
from .protocol import AttributionMethod, TrainingSet

if TYPE_CHECKING:
    from ..models.protocol import AttributableModel

SHARED = ("protocol", "registry")  # modules here that are no method
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def load_method(name: str, **settings: object) -> AttributionMethod:
    """The method of the file `name`, with `settings` over its defaults; a setting that is None keeps its default.

    Raises InvalidRequest for an unknown method or setting, listing what there is, and for a value it cannot have.
    """
    known = sorted({module.name for module in iter_modules([str(Path(__file__).parent)])} - set(SHARED))
    if name not in known:
        raise InvalidRequest(f"There is no method “{name}”; the methods here are: {', '.join(known)}.")
    method = import_module(f"{__package__}.{name}").METHOD
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
