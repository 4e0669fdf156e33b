"""Networks on a device, in a precision, and able to stop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..stopping import check

if TYPE_CHECKING:
    import torch
    from torch import nn


@contextmanager
def in_float32(network: nn.Module) -> Iterator[None]:
    """The network in float32 inside the block, and in its own precision again after it."""
    dtype = next(network.parameters()).dtype
    try:
        network.float()
        yield
    finally:
        network.to(dtype)


def put(network: Any, device: str, dtype: torch.dtype) -> None:  # noqa: ANN401
    """A network on a device in a precision, but for layers that its class keeps in float32, as T5's overflow else."""
    network.to(device, dtype)
    kept = set(getattr(network, "_keep_in_fp32_modules", None) or ())
    for name, module in network.named_modules():
        if name.rpartition(".")[2] in kept:
            module.float()


def heed_stops(network: nn.Module) -> None:
    """Let every block of a network look whether its output is still wanted, before it computes it."""
    for block in network.modules():
        if any(True for _ in block.children()):
            block.register_forward_pre_hook(lambda _block, _inputs: check())
