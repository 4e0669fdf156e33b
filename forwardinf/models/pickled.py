"""Weights that were saved as pickles, written down again as safetensors; nothing in them is run."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from ..errors import InvalidRequest, MissingAsset, UnsupportedModel
from ..files.atomic import writing

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
# transformers names its two kinds of files otherwise, beside the suffix.
_RENAMED = ("pytorch_model", "model")


def as_safetensors(path: Path) -> list[Path]:
    """Write a .safetensors file beside a pickle, or beside each in the folders of a pipeline; returns the new ones.

    Raises MissingAsset where there is none, UnsupportedModel for one that holds more than weights, and InvalidRequest
    where a file of the new name is there already and no other pickle is left to be written down.
    """
    pickles = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.suffix in SUFFIXES]
    if not pickles:
        raise MissingAsset(f"“{path.name}” is no file, and no folder with files that end in {', '.join(SUFFIXES)}.")
    targets = {file: _target(file) for file in pickles}
    if all(target.exists() for target in targets.values()):
        name = next(iter(targets.values())).name
        raise InvalidRequest(f"“{name}” is there already; move it away to have it written again.")
    written = [target for target in targets.values() if not target.exists()]
    for file, target in targets.items():
        if target in written:
            weights = _weights(file)
            with writing(target) as aside:
                save_file(weights, aside, metadata={"format": "pt"})
    return written


def _target(file: Path) -> Path:
    stem = file.stem
    renamed = stem.replace(*_RENAMED, 1) if stem.startswith(_RENAMED[0]) and file.suffix == ".bin" else stem
    return file.with_name(f"{renamed}.safetensors")


def _weights(file: Path) -> dict[str, Tensor]:
    """By name, without what else a training run keeps beside them; raises UnsupportedModel."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UnsupportedModel(
            f"“{file.name}” cannot be read without running a program that it brings, or is cut short. Ask for a "
            ".safetensors file of the same weights."
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    weights = {name: value.clone().contiguous() for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not weights:
        raise UnsupportedModel(f"“{file.name}” holds no weights by name. Ask for a .safetensors file of the model.")
    return weights
