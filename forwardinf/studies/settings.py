"""What a study's figures depend on beside its own questions."""

from __future__ import annotations

import json
from typing import Any

from .. import __version__
from ..attribution.attributor import Attributor
from ..methods.protocol import AttributionMethod, settings_of
from ..methods.registry import load_method


def settings_on(attributor: Attributor, method: AttributionMethod) -> dict[str, Any]:
    """All that a score depends on beside its query, in JSON's types; an index's reference where that counts."""
    model, index, reference = attributor.model, attributor.index, attributor.reference(method)
    return {
        **attributor.comparable(method),
        "model": model.fingerprint,
        "index": index.measured_fingerprint if reference is None else index.fingerprint,
        "reference_queries": 0 if reference is None else len(reference.queries),
        "version": __version__,
    }


def changed(method: dict[str, Any]) -> dict[str, str]:
    """Which of a method's settings, as `settings_of` has them, are not at their defaults, and how they are written."""
    defaults = settings_of(load_method(method["name"]))
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in method.items()
        if value != defaults[key]
    }
