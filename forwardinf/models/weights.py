"""Which of a network's weights a query may move, and moving them for a while, exactly.

A query moves most weights by less than half precision resolves: added to a float16 weight, a change of less than a
4096th of it is rounded away. So the modules with tunable weights keep them, and compute, in float32, whatever the rest
of the network runs in.
"""

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
    # By which text reaches a picture: a UNet's cross-attention; of transformers that read both as one sequence the
    # text's own keys and values, or where text and picture share theirs, those.
    "cross-attention k,v": r"attentions\..*\.attn2\.to_[kv]\.weight$|\.add_[kv]_proj\.weight$"
    r"|^(layers|context_refiner)\..*\.attention\.to_[kv]\.weight$",
    "attention": r"\.attn[12]?\.|\.attention\.|\.attentions\.\d+\.(to_|group_norm)",
    "adapter": r"\.(lora|hada|lokr)_",
    "all": r"",
}


class TunableWeights:
    """The weights of a network whose names match a pattern; gradients reach them and no other weight of it."""

    def __init__(self, network: Module, pattern: str, dtype: torch.dtype = torch.float32) -> None:
        """Puts the network into `dtype`, but for the modules with weights that match.

        `pattern` is a key of PATTERNS or a regular expression; raises InvalidRequest where nothing matches it.
        """
        network.requires_grad_(False)
        names = _matching(dict(_of_layers(network)), pattern).keys()
        holders = {name.rpartition(".")[0] for name in names} if dtype != torch.float32 else set()
        whole = {holder: _weights_of(network.get_submodule(holder)) for holder in holders}
        network.to(dtype)
        for holder, weights in whole.items():
            _keep_in_float32(network.get_submodule(holder), weights)
            if not re.search(PATTERNS["adapter"], f".{holder}"):  # in these PEFT casts what they take and return
                _compute_in_float32(network.get_submodule(holder))
        self.by_name: dict[str, Tensor] = {name: network.get_parameter(name) for name in names}
        for tunable in self.by_name.values():
            tunable.requires_grad_(True)

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


def _of_layers(network: Module) -> Iterator[tuple[str, Tensor]]:
    """The weights of a network's layers; not what a module of modules has beside them, such as tokens that fill up."""
    modules = dict(network.named_modules())
    for name, weights in network.named_parameters():
        if not any(True for _ in modules[name.rpartition(".")[0]].children()):
            yield name, weights


def _weights_of(module: Module) -> dict[str, Tensor]:
    return {name: weights.detach().float().clone() for name, weights in module.named_parameters()}


def _keep_in_float32(module: Module, weights: dict[str, Tensor]) -> None:
    """Give a module its weights back in float32."""
    module.float()
    with torch.no_grad():
        for name, weight in weights.items():
            module.get_parameter(name).copy_(weight)


def _compute_in_float32(module: Module) -> None:
    """What a module takes and returns stays in the precision around it."""
    inner = module.forward

    def forward(x: Tensor) -> Tensor:
        result: Tensor = inner(x.float())
        return result.to(x.dtype)

    module.forward = forward


def _matching(parameters: dict[str, Tensor], pattern: str) -> dict[str, Tensor]:
    try:
        expression = re.compile(PATTERNS.get(pattern, pattern))
    except re.error as error:
        raise InvalidRequest(f"The weight pattern “{pattern}” is not a regular expression: {error}.") from error
    chosen = {name: p for name, p in parameters.items() if expression.search(name)}
    if not chosen and pattern == "adapter":
        raise InvalidRequest(
            "A query is to move the weights of an adapter, but the model has none. Name it with --lora, as when the "
            "index was built, or move other weights."
        )
    if not chosen:
        known = ", ".join(f"“{name}”" for name in PATTERNS)
        raise InvalidRequest(f"No weight of the network matches “{pattern}”. Try {known}, or part of a weight's name.")
    return chosen
