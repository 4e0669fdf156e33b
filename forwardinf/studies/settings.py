"""What a study's scores depend on apart from the queries, and how it is compared and named."""

from __future__ import annotations

import json
from typing import Any

from .. import __version__
from ..attribution.attributor import Attributor
from ..methods.protocol import AttributionMethod, settings_of
from ..methods.registry import load_method


def settings_on(attributor: Attributor, method: AttributionMethod) -> dict[str, Any]:
    """Everything that a score depends on apart from its query, in JSON's types.

    The null distribution counts only where the method is scored against one.
    """
    model, index, reference = attributor.model, attributor.index, attributor.reference(method)
    return {
        **attributor.comparable(method),
        "model": model.fingerprint,
        "index": index.measured_fingerprint if reference is None else index.fingerprint,
        "reference_queries": 0 if reference is None else len(reference.queries),
        "version": __version__,
    }


def changed(method: dict[str, Any]) -> dict[str, str]:
    """The settings of a method, as `settings_of` gives them, that differ from the defaults, as text."""
    defaults = settings_of(load_method(method["name"]))
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in method.items()
        if value != defaults[key]
    }
