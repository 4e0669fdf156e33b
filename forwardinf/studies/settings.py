"""What a study's scores depend on apart from the queries, and how it is compared and named."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from typing import Any

from .. import __version__
from ..attribution.attributor import Attributor
from ..attribution.shortlist import Effort
from ..errors import ForwardInfError
from ..files.identity import digest_of
from ..index.null_file import NullSizes
from ..methods.protocol import AttributionMethod, settings_of
from ..methods.registry import load_method


def settings_on(attributor: Attributor, method: AttributionMethod) -> dict[str, Any]:
    """Everything that a score depends on apart from its query, in JSON's types.

    The null distribution counts only where the method is scored against one. An index of `steady` is known by what it
    follows from: built again on another machine, its figures differ in their last digits, and trials go on with it.
    """
    model, index, null = attributor.model, attributor.index, attributor.null_changes(method)
    known = index.measured_fingerprint if null is None else index.fingerprint
    if isinstance(null, NullSizes):
        known = digest_of([index.info.digest, null.settings, null.queries])
    return {
        **attributor.comparable_settings(method),
        "model": model.fingerprint,
        "index": known,
        "reference_queries": 0 if null is None else len(null.queries),
        "version": __version__,
    }


def settings_of_answers(attributor: Attributor, method: AttributionMethod, effort: Effort | None) -> dict[str, Any]:
    """As `settings_on`, of answers that weigh as many images as `effort` says; None for all."""
    return settings_on(attributor, method) | ({} if effort is None else {"weighed": asdict(effort)})


def effective(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a study with those of its method reduced to what decides a score.

    So trials stay valid when a method gets a new setting with a default, and an idle setting makes no difference.
    Settings that their method no longer accepts stay as they are.
    """
    if "method" not in settings:
        return settings
    return settings | {"method": json.loads(_effective(json.dumps(settings["method"])))}


@cache
def _effective(method: str) -> str:
    settings: dict[str, Any] = json.loads(method)
    try:
        return json.dumps({"name": settings["name"], **load_method(**settings).effective()})
    except (ForwardInfError, KeyError, TypeError):
        return method


def changed(method: dict[str, Any]) -> dict[str, str]:
    """The settings of a method, as `settings_of` gives them, that differ from the defaults, as text."""
    defaults = settings_of(load_method(method["name"]))
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in method.items()
        if value != defaults[key]
    }
