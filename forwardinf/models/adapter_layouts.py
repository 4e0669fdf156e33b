"""Adapters of transformers, whose layers trainers name as the model's original code does, and often fuse.

diffusers' own converters say which of its layers are meant, and split what is fused. They drop what they do not know
with a line in a log; here that is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import torch

from ..errors import UnsupportedModel
from .adapter_file import shown

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import Tensor

Conversion: TypeAlias = Callable[[str, Mapping[str, "Tensor"]], dict[str, "Tensor"]]


def converted_by(pipeline: type[DiffusionPipeline]) -> Conversion:
    """The conversion of a file's tensors, which it is given with the file's name, to the keys that diffusers has."""

    def convert(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # A tensor that nothing of the result depends on has no gradient, whichever way it was named or split.
        inputs = {key: tensor.detach().float().requires_grad_(_is_matrix(key)) for key, tensor in tensors.items()}
        with torch.enable_grad():
            try:
                found = pipeline.lora_state_dict(dict(inputs), return_alphas=True)
            except (ValueError, KeyError, IndexError, RuntimeError, AssertionError) as error:
                raise UnsupportedModel(
                    f"“{name}” has keys that {pipeline.__name__} does not know: {shown(sorted(tensors))}. Try it "
                    "with the model that it was trained on, or in diffusers' or PEFT's layout."
                ) from error
            state, alphas = found if isinstance(found, tuple) else (found, None)
            state = {**state, **(alphas or {})}
            dropped = _without_effect(inputs, state)
        if dropped:
            raise UnsupportedModel(
                f"“{name}” changes layers of which {pipeline.__name__} has none, or in a way that it does not read: "
                f"{shown(dropped)}. Try it with the model that it was trained on."
            )
        return {key: tensor.detach() for key, tensor in state.items()}

    return convert


def _is_matrix(key: str) -> bool:
    """Whether a tensor's every number counts by itself: an alpha only scales others."""
    return not key.endswith("alpha")


def _without_effect(inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> list[str]:
    reached = [tensor.sum() for tensor in outputs.values() if tensor.requires_grad]
    asked = {key: tensor for key, tensor in inputs.items() if tensor.requires_grad}
    if not reached or not asked:
        return sorted(asked)
    gradients = torch.autograd.grad(torch.stack(reached).sum(), list(asked.values()), allow_unused=True)
    return sorted(key for key, gradient in zip(asked, gradients, strict=True) if gradient is None)
