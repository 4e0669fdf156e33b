"""A picture to be generated, and the limits on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InvalidRequest

MAX_PROMPT = 500  # characters; the shipped model reads 22 tokens of them
MAX_SEED = 2**32 - 1
MAX_STEPS = 100
MAX_GUIDANCE = 20.0


@dataclass(frozen=True)
class GenerationRequest:
    """One picture to generate; raises InvalidRequest where a field is out of range."""

    prompt: str
    seed: int = 0
    steps: int = 25
    guidance: float = 5.0

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise InvalidRequest("The prompt is empty. Say what to generate, for example “red apple, OpenMoji style”.")
        require_short(self.prompt)
        _require_integer("seed", self.seed, 0, MAX_SEED)
        _require_integer("number of steps", self.steps, 1, MAX_STEPS)
        if not (math.isfinite(self.guidance) and 0 <= self.guidance <= MAX_GUIDANCE):
            raise InvalidRequest(f"The guidance is {self.guidance}; it must lie between 0 and {MAX_GUIDANCE:g}.")


def require_short(prompt: str) -> None:
    """Raise InvalidRequest for a prompt that is longer than any model here reads."""
    if len(prompt) > MAX_PROMPT:
        raise InvalidRequest(f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT} are accepted.")


def _require_integer(what: str, value: float, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"The {what} is {value!r}; it must be a whole number from {low} to {high}.")
    if not low <= value <= high:
        raise InvalidRequest(f"The {what} is {value}; it must lie between {low} and {high}.")
