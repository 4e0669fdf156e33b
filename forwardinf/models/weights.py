"""Which of a network's weights a query may move, and moving them for a while."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from ..errors import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

PATTERNS = {
    "cross-attention k,v": r"\.attn2\.to_[kv]\.weight$",
    "attention": r"\.attn[12]\.",
    "all": r"",
}


class TunableWeights:
    """The weights of a network whose names match a pattern; gradients reach them and no other weight of it."""

    def __init__(self, network: Module, pattern: str) -> None:
        """`pattern` is a key of PATTERNS or a regular expression; raises InvalidRequest where nothing matches it."""
        network.requires_grad_(False)
        self.by_name: dict[str, Tensor] = _matching(dict(network.named_parameters()), pattern)
        for weights in self.by_name.values():
            weights.requires_grad_(True)

    @contextmanager
    def moved(self, deltas: Mapping[str, Tensor]) -> Iterator[None]:
        """The weights with `deltas` added inside the block; restored bit for bit after it, whatever happens."""
        kept = {name: self.by_name[name].detach().clone() for name in deltas}
        try:
            with torch.no_grad():
                for name, delta in deltas.items():
                    self.by_name[name].add_(delta)
            yield
        finally:
            with torch.no_grad():
                for name, weights in kept.items():
                    self.by_name[name].copy_(weights)


def _matching(parameters: dict[str, Tensor], pattern: str) -> dict[str, Tensor]:
    try:
        expression = re.compile(PATTERNS.get(pattern, pattern))
    except re.error as error:
        raise InvalidRequest(f"The weight pattern “{pattern}” is not a regular expression: {error}.") from error
    chosen = {name: p for name, p in parameters.items() if expression.search(name)}
    if not chosen:
        known = ", ".join(f"“{name}”" for name in PATTERNS)
        raise InvalidRequest(f"No weight of the network matches “{pattern}”. Try {known}, or part of a weight's name.")
    return chosen
