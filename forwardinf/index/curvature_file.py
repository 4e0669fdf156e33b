"""The curvature estimates of an index on disk, each file written aside and renamed, so that it is whole or absent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import IndexMismatch
from ..files.atomic import writing
from ..files.manifest import Manifest

if TYPE_CHECKING:
    from torch import Tensor

    from ..gradients.curvature import WeightCurvature

FISHER, KRONECKER = "fisher.safetensors", "kronecker.safetensors"
LARGEST = 65504.0  # in float16


def write_fisher(folder: Path, fisher: Mapping[str, Tensor]) -> None:
    """Each weight's diagonal in float16 as shares of its mean, which is kept beside it in full.

    Squared gradients underflow in float16; shares of their mean do not where it matters, as a share of the mean is
    added to all of them when a gradient is divided by them.
    """
    tensors: dict[str, Tensor] = {}
    for name, squares in fisher.items():
        on_cpu = squares.cpu().double()  # as not every accelerator has float64
        mean = on_cpu.mean()
        shares = on_cpu / mean.clamp(min=1e-300)
        tensors |= {f"mean/{name}": mean, f"shares/{name}": shares.clamp(max=LARGEST).half().contiguous()}
    _save(tensors, folder / FISHER)


def read_fisher(manifest: Manifest, device: str = "cpu") -> dict[str, Tensor]:
    """The diagonal Fisher by weight, in float32 on `device`."""
    from safetensors.torch import load

    tensors = load(manifest.read_bytes(FISHER))
    return {
        name: tensors[f"shares/{name}"].to(device).float() * float(tensors[f"mean/{name}"])
        for name in _weights(tensors.keys())
    }


def weights_of(folder: Path) -> frozenset[str]:
    """The weights whose curvature is known, from the header of the file."""
    from safetensors import safe_open

    with safe_open(folder / FISHER, framework="pt") as file:
        return frozenset(_weights(file.keys()))


def _weights(keys: Iterable[str]) -> list[str]:
    return [key.removeprefix("mean/") for key in keys if key.startswith("mean/")]


def write_kronecker(folder: Path, curvature: Mapping[str, WeightCurvature]) -> None:
    tensors = {
        f"{part}/{name}": tensor.cpu()
        for name, own in curvature.items()
        for part, tensor in vars(own).items()
        if tensor is not None
    }
    _save(tensors, folder / KRONECKER)


def read_kronecker(manifest: Manifest, device: str = "cpu") -> dict[str, WeightCurvature]:
    """The Fisher in its eigenbases by weight, on `device`; raises IndexMismatch where the index was built without."""
    from safetensors.torch import load

    from ..gradients.curvature import WeightCurvature

    if KRONECKER not in manifest.files:
        raise IndexMismatch(
            f"“{manifest.folder.name}” was built without a Kronecker-factored curvature. Build it again in the same "
            "folder with --kronecker, which keeps what is there, or take curvature=fisher."
        )
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load(manifest.read_bytes(KRONECKER)).items():
        part, _, name = key.partition("/")
        parts.setdefault(name, {})[part] = tensor.to(device)
    return {name: WeightCurvature(**own) for name, own in parts.items()}


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    with writing(path) as aside:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside)  # not as the UNet's lie
