"""The file of an adapter (LoRA, DoRA, LoHa or LoKr): its matrices by layer, by whichever keys they were saved.

Known are the keys of kohya's sd-scripts and LyCORIS, of PEFT, of diffusers, and of ComfyUI.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load

from ..errors import DamagedAsset, MissingAsset, UnsupportedModel
from .weights_file import unreadable

if TYPE_CHECKING:
    from torch import Tensor

    from .adapter_layouts import Conversion

_LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
_LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
_BEFORE = (".lora", ".lora_linear_layer", "_lora")  # of diffusers' earlier keys, before .down and .up
_ENDINGS = {
    "down": (".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight", *(f"{b}.down.weight" for b in _BEFORE)),
    "up": (".lora_up.weight", ".lora_B.weight", ".lora_B.default.weight", *(f"{b}.up.weight" for b in _BEFORE)),
    "alpha": (".alpha",),
    "magnitude": (".dora_scale", *(f".lora_magnitude_vector{end}" for end in ("", ".weight", ".default.weight"))),
    **{part: (f".{part}", f".{part}.default") for part in (*_LOHA, *_LOKR)},
}
# What the matrices of a layer must be, for each kind.
_WHOLE = {
    "lora": ({"down", "up"},),
    "dora": ({"down", "up", "magnitude"},),
    "loha": ({*_LOHA[:4]}, {*_LOHA}),
    "lokr": tuple(
        {*first, *second}
        for first in (_LOKR[:1], _LOKR[1:3])
        for second in (_LOKR[3:4], _LOKR[4:6], _LOKR[4:7])
    ),
}  # fmt: skip
_PEFT, CONFIG, WEIGHTS = "base_model.model.", "adapter_config.json", "adapter_model.safetensors"
_PLAIN_START = (True, False, "gaussian", "eva", "orthogonal")  # others change the base's weights as well


@dataclass(frozen=True)
class Layer:
    """The matrices that change one layer, in float32."""

    key: str  # as the file names the layer
    kind: str  # lora, dora, loha or lokr
    parts: Mapping[str, Tensor]
    alpha: float | None

    @property
    def rank(self) -> int | None:
        """None for a LoKr of two whole matrices, which is not scaled."""
        for part in ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
            if part in self.parts:
                return self.parts[part].shape[0]
        return None


@dataclass(frozen=True)
class AdapterFile:
    """An adapter as it is on disk."""

    name: str
    digest: str  # SHA-256 of the file, and of the configuration beside it where that counts
    layers: tuple[Layer, ...]
    metadata: Mapping[str, str]  # free text, as its trainer wrote it
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by component; "" is for all

    @property
    def base(self) -> str:
        """What the file says of its base model; may be empty."""
        return self.metadata.get("ss_base_model_version") or self.metadata.get("modelspec.architecture") or ""

    def scale_of(self, layer: Layer, component: str, module: str) -> float:
        """What the product of a layer's matrices is multiplied by: alpha / rank, unless PEFT was told otherwise."""
        if layer.rank is None:
            return 1.0
        if layer.alpha is not None:
            return layer.alpha / layer.rank
        config = self.configs.get(component) or self.configs.get("")
        if config is None:
            return 1.0
        alpha = config.get("lora_alpha", config.get("alpha", layer.rank))
        for pattern, own in (config.get("alpha_pattern") or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                alpha = own
        return float(alpha) / (math.sqrt(layer.rank) if config.get("use_rslora") else layer.rank)


def is_adapter(keys: Iterable[str]) -> bool:
    """Whether a file with these keys is meant as an adapter, whole or not."""
    return any(_split(key) for key in keys)


def read_adapter(path: str, convert: Conversion | None = None) -> AdapterFile:
    """An adapter from a .safetensors file, or from a folder that PEFT wrote; `convert` renames its tensors.

    Raises MissingAsset, DamagedAsset, and UnsupportedModel for a pickle and for keys that are no adapter's.
    """
    file = file_of(Path(path))
    content = file.read_bytes()
    try:
        tensors = load(content)
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except SafetensorError as error:
        raise unreadable(file.name, content) from error
    digest = hashlib.sha256(content)
    configs = _configs(file, tensors, metadata, digest)
    layers = _layers(file.name, convert(file.name, tensors) if convert else tensors)
    return AdapterFile(file.name, digest.hexdigest(), layers, metadata, configs)


def file_of(path: Path) -> Path:
    """The file of an adapter that is named by it or by its folder; raises MissingAsset."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise MissingAsset(f"There is no adapter “{path.name}”: it is neither a file nor a folder.")
    found = [path / WEIGHTS] if (path / WEIGHTS).is_file() else sorted(path.glob("*.safetensors"))
    if len(found) != 1:
        raise MissingAsset(
            f"The folder “{path.name}” has {len(found) or 'no'} .safetensors files, so it is not known which is the "
            "adapter. Name the file."
        )
    return found[0]


def _configs(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], digest: hashlib._Hash
) -> dict[str, dict[str, Any]]:
    """What PEFT was told, by component, from the file beside or from diffusers' metadata; raises UnsupportedModel."""
    configs: dict[str, dict[str, Any]] = {}
    if any(key.startswith(_PEFT) for key in tensors):
        beside = file.with_name(CONFIG)
        if not beside.is_file():
            raise UnsupportedModel(
                f"“{file.name}” was saved by PEFT, whose {CONFIG} says by how much its matrices count (lora_alpha). "
                "It is not beside the file; put it there."
            )
        content = beside.read_bytes()
        digest.update(content)
        configs[""] = _object(content, CONFIG)
    elif told := metadata.get("lora_adapter_metadata"):
        for key, value in _object(told.encode(), f"the metadata of {file.name}").items():
            component, _, setting = key.partition(".")
            configs.setdefault(component, {})[setting] = value
    for config in configs.values():
        start = config.get("init_lora_weights", True)
        if start not in _PLAIN_START:
            raise UnsupportedModel(
                f"“{file.name}” began as “{start}”, which changes the base's own weights, so it does not fit the base "
                "as it is. Save it as a plain LoRA (PEFT's path_initial_model_for_weight_conversion)."
            )
    return configs


def _object(content: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise DamagedAsset(f"“{name}” is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise DamagedAsset(f"“{name}” holds no object of settings.")
    return value


def _layers(name: str, tensors: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """Layers by their matrices; raises UnsupportedModel naming keys that belong to none, and layers not whole."""
    found: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for key, tensor in tensors.items():
        split = _split(key)
        if split is None:
            unknown.append(key)
        else:
            whole = tensor.float()
            found.setdefault(split[0], {})[split[1]] = whole.flatten() if "lora_magnitude_vector" in key else whole
    if unknown or not found:
        raise UnsupportedModel(
            f"“{name}” has {shown(unknown) or 'no keys'}, which are no matrices of a LoRA, DoRA, LoHa or LoKr. If it "
            "is a whole checkpoint, name it with --model."
        )
    return tuple(_layer(name, key, parts) for key, parts in sorted(found.items()))


def _split(key: str) -> tuple[str, str] | None:
    """A layer's name and which part of it a key has."""
    for part, endings in _ENDINGS.items():
        for ending in endings:
            if key.endswith(ending):
                return key.removesuffix(ending), part
    return None


def _layer(name: str, key: str, parts: dict[str, Tensor]) -> Layer:
    alpha = parts.pop("alpha", None)
    kind = next((kind for kind, whole in _WHOLE.items() if set(parts) in whole), None)
    if kind is None:
        raise DamagedAsset(f"“{name}” has of “{key}” only {', '.join(sorted(parts)) or 'alpha'}. Fetch it again.")
    if not all(tensor.isfinite().all() for tensor in parts.values()):
        raise DamagedAsset(f"“{name}” has numbers that are not finite in “{key}”. Fetch it again, or another one.")
    return Layer(key, kind, parts, None if alpha is None else float(alpha))


def shown(names: list[str], most: int = 5) -> str:
    """Names for a message, not all of very many; empty for none."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(f"“{name}”" for name in names[:most]) + rest
