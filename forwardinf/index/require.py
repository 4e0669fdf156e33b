"""Whether a model is the one that an index was made with."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from ..errors import IndexMismatch
from .info import IndexInfo, prepared

if TYPE_CHECKING:
    from ..models.protocol import AttributableModel


def require(model: AttributableModel, info: IndexInfo, weights: AbstractSet[str], name: str) -> None:
    """Raise IndexMismatch unless an index, called `name`, whose Fisher has these weights, was made with a model.

    Also in the same precision: base losses in another one differ by more than a query changes them.
    """
    if info.fingerprint != model.fingerprint:
        raise IndexMismatch(
            f"“{name}” was made with another model ({info.model}, {info.fingerprint[:12]}…; "
            f"this one is {model.fingerprint[:12]}…). Build the index again with this model."
        )
    if info.dtype != model.spec.dtype:
        raise IndexMismatch(
            f"“{name}” was built in {info.dtype}, but the model runs in {model.spec.dtype}, where "
            "losses are rounded otherwise. Leave --dtype (FORWARDINF_DTYPE) out, or build another index with it."
        )
    if (info.fit, info.flip) != (model.spec.fit or info.fit, model.spec.flip):
        raise IndexMismatch(
            f"“{name}” was built from pictures prepared by {prepared(info.fit, info.flip)}, "
            f"but the model is shown them by {prepared(model.spec.fit or '', model.spec.flip)}. Load the model by "
            "Attributor.load, or with the index's fit and flip."
        )
    wanted = model.tunable_parameters().keys()
    if unknown := sorted(wanted - weights):
        raise IndexMismatch(
            f"“{name}” has the Fisher of the weights “{info.tunable}”, but a query is to move "
            f"“{model.spec.tunable}”: {len(unknown)} of {len(wanted)} weights are missing, such as {unknown[0]}. "
            f"Move only “{info.tunable}”, or build an index with --tunable “{model.spec.tunable}”."
        )
