"""Which index a method wants, and which method an index is for."""

from __future__ import annotations

from typing import Any

from ..draws import DrawPlan
from ..errors import InvalidRequest
from ..index.build import BuildPlan
from ..methods.forward_inf import ForwardInf
from ..methods.protocol import AttributionMethod
from ..methods.registry import method_class, method_names


def plan_for(method: AttributionMethod, draws: int | None = None, **fields: Any) -> BuildPlan:  # noqa: ANN401
    """How an index for `method` is built, with other `fields` of a BuildPlan; by default at the method's draws.

    Raises InvalidRequest for draws that it cannot have.
    """
    name = method.method_name() if method.against_null else BuildPlan.method
    plan = BuildPlan(draws=draws or method.index_draws, antithetic=method.antithetic, method=name, **fields)
    DrawPlan(plan.seed, plan.draws, antithetic=plan.antithetic)  # refuses them before anything is written
    return plan


def method_for(name: str) -> ForwardInf:
    """A method that indexes are built for, with its defaults; raises InvalidRequest for another name."""
    built_for = {n: c for n in method_names() if issubclass(c := method_class(n), ForwardInf) and c.against_null}
    if name not in built_for:
        raise InvalidRequest(f"No index is built for “{name}”; there are indexes for: {', '.join(built_for)}.")
    return built_for[name]()
