"""What a study of a use is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

OURS = "forward_inf"


@dataclass(frozen=True)
class Figure:
    """One figure of one method, with its 95 % interval."""

    what: str  # the question and the measure, the same for all methods that are compared
    by: str  # the method
    value: float
    interval: tuple[float, float] | None = None  # None where a single figure was measured
    goal: float | None = None  # at least
    seconds: float | None = None  # that it took, where methods are compared by it


@dataclass(frozen=True)
class Found:
    """What a study found."""

    figures: tuple[Figure, ...]
    points: Mapping[str, Sequence[tuple[float, float]]]  # of its plot: pairs by name; may be empty
    notes: tuple[str, ...] = ()


class Study(Protocol):
    """A module of this package."""

    NAME: str
    TITLE: str
    FULL: Any  # a frozen dataclass of numbers: the size at which goals are decided
    QUICK: Any  # the same, small
    AXES: tuple[str, str]  # of the plot of its points; both empty for none
    run: Callable[[Any], Found]
