"""What a study's figures depend on beside its own questions."""

from __future__ import annotations

from typing import Any

from .. import __version__
from ..attribution import Attributor
from ..methods import AttributionMethod


def settings_on(attributor: Attributor, method: AttributionMethod) -> dict[str, Any]:
    """All that a score depends on beside its query, in JSON's types."""
    model, index, reference = attributor.model, attributor.index, attributor.reference(method)
    return {
        **attributor.comparable(method),
        "model": model.fingerprint,
        "index": index.fingerprint,
        "reference_queries": 0 if reference is None else len(reference),
        "version": __version__,
    }
