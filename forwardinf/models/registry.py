"""Model families, found by name or by the class that a checkpoint names.

A family is a module here that defines `load(spec) -> PictureModel` and PIPELINES, the classes of diffusers whose
checkpoints it reads, as model_index.json names them. Adding a family is adding a file; the other modules are shared.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from ..errors import UnsupportedModel
from ..types import ModelSpec
from .protocol import PictureModel

if TYPE_CHECKING:
    from types import ModuleType


def load_model(spec: ModelSpec) -> PictureModel:
    """The model that `spec` names, loaded by its family, or by the one that reads such checkpoints where none is named.

    Raises UnsupportedModel for an unknown family or a checkpoint that none reads, MissingAsset or DamagedAsset for
    files that are missing or cannot be read, and OutOfMemory for one that does not fit into this machine.
    """
    from .memory import require_memory

    families = _families()
    family = spec.family or _family_of(spec, families)
    if family not in families:
        raise UnsupportedModel(f"There is no model family “{family}”; the families here are: {', '.join(families)}.")
    require_memory(spec)
    model: PictureModel = families[family].load(spec)
    return model


def _families() -> dict[str, ModuleType]:
    """Every family's module, by name."""
    modules = {
        found.name: import_module(f"{__package__}.{found.name}") for found in iter_modules([str(Path(__file__).parent)])
    }
    return {name: module for name, module in sorted(modules.items()) if hasattr(module, "PIPELINES")}


def _family_of(spec: ModelSpec, families: dict[str, ModuleType]) -> str:
    from .checkpoint import pipeline_class

    kind = pipeline_class(spec)
    for name, module in families.items():
        if kind in module.PIPELINES:
            return name
    known = ", ".join(kind for module in families.values() for kind in module.PIPELINES)
    raise UnsupportedModel(
        f"“{Path(spec.checkpoint).name}” {f'is a {kind}' if kind else 'names no class of pipeline'}; those that can be "
        f"read are {known}. If it has the same networks, set FORWARDINF_FAMILY to {' or '.join(families)}."
    )
