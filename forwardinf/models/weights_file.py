"""A file of weights before they are read: what is in it, by its header, and why a file cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..errors import DamagedAsset, ForwardInfError, UnsupportedModel

_PICKLES = (b"PK", b"\x80")  # how torch.save begins, today and in its earlier format
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Header:
    """Names and shapes of a safetensors file's tensors, and what its maker wrote beside them."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.path.name

    def below(self, beginning: str) -> list[str]:
        """The names that begin so."""
        return [name for name in self.shapes if name.startswith(beginning)]


def read_header(path: Path) -> Header:
    """Raises UnsupportedModel for a pickle, DamagedAsset for any other file that is no whole safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return Header(path, shapes, file.metadata() or {})
    except SafetensorError as error:
        with path.open("rb") as content:
            raise unreadable(path.name, content.read(len(_POINTER))) from error


def unreadable(name: str, beginning: bytes) -> ForwardInfError:
    """Why a file that begins so is no safetensors file. Ask only of one that was not read: some begin as pickles do."""
    if beginning.startswith(_PICKLES):
        return UnsupportedModel(
            f"“{name}” is a pickle, which can run any program when it is opened, so it is not. Make a .safetensors "
            "file of it with: forwardinf model safetensors FILE"
        )
    if beginning.startswith(_POINTER):
        return DamagedAsset(f"“{name}” is a pointer of Git LFS, not the file that it stands for. Run: git lfs pull")
    return DamagedAsset(f"“{name}” is no safetensors file, or is cut short. Fetch it again.")
