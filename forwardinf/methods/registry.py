"""Methods, found by name, and where they keep what is the same for every query.

A method module defines `METHOD`, a class of settings that does what AttributionMethod says. Adding a method is adding a
file.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, cast

from ..errors import InvalidRequest
from ..files.identity import digest_of
from .protocol import AttributionMethod, TrainingSet
from .settings import MethodSettings

if TYPE_CHECKING:
    from ..models.protocol import AttributableModel

SHARED = frozenset({"mirror", "protocol", "registry", "settings"})  # modules here that are no method


def method_names() -> list[str]:
    """The names of all methods, in alphabetical order."""
    return sorted({module.name for module in iter_modules([str(Path(__file__).parent)])} - SHARED)


def method_class(name: str) -> type[MethodSettings]:
    """The class of a method, whose fields are its settings."""
    found: type[MethodSettings] = import_module(f"{__package__}.{name}").METHOD
    return found


def load_method(name: str, **settings: object) -> AttributionMethod:
    """The method of the file `name`, with `settings` over its defaults; a setting that is None keeps its default.

    Raises InvalidRequest for an unknown method or setting, listing what there is, and for a value it cannot have.
    """
    if name not in method_names():
        raise InvalidRequest(f"There is no method “{name}”; the methods here are: {', '.join(method_names())}.")
    method = method_class(name)
    given = {key: value for key, value in settings.items() if value is not None}
    known = list(method.model_fields)
    if unknown := sorted(given.keys() - set(known)):
        raise InvalidRequest(f"{name} has no setting “{unknown[0]}”; its settings are: {', '.join(known)}.")
    return cast(AttributionMethod, method(**given))


def scores_alike(kept: Mapping[str, Any], method: AttributionMethod) -> bool:
    """Whether a method with settings as `settings_of` gave them, perhaps long ago, scores as `method` does.

    A setting at its default counts as one that was not there yet, and one that decides nothing does not count. Settings
    that this version does not know mean no.
    """
    given = dict(kept)
    if given.pop("name", None) != method.method_name():
        return False
    try:
        return load_method(method.method_name(), **given).effective() == method.effective()
    except InvalidRequest:
        return False


def kept_file(training_set: TrainingSet, model: AttributableModel, name: str, *settings: object) -> Path | None:
    """Where a method keeps what is the same for every query, named by all that decides it; None to keep nothing."""
    decisive = (*settings, model.fingerprint, model.spec.tunable, model.spec.dtype, training_set.fingerprint)
    return training_set.cache and training_set.cache / f"{name}-{digest_of([name, *decisive], 16)}.npy"
