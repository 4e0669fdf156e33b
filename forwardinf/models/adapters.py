"""An adapter in its places: the layers that it changes, by PEFT, and how to leave it out for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import UnsupportedModel
from ..types import Adapter
from .adapter_file import AdapterFile, Layer, read_adapter, shown
from .adapter_places import UNET, Places

if TYPE_CHECKING:
    from peft import PeftConfig
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch import Tensor

    from .adapter_layouts import Conversion


_NAMES = {UNET: "UNet", "transformer": "transformer"}


@dataclass(frozen=True)
class PlacedAdapter:
    """An adapter's layers with their places in a model's networks, which are as they were until it is attached."""

    file: AdapterFile
    weight: float
    places: Mapping[str, Mapping[str, Layer]]  # layers by path, by component

    @classmethod
    def read(
        cls,
        adapter: Adapter,
        networks: Mapping[str, nn.Module],
        denoiser: str = UNET,
        convert: Conversion | None = None,
    ) -> PlacedAdapter:
        """An adapter on the network named `denoiser` and on the text encoders.

        Where some keys fit no place as they are, `convert` is tried. Raises what `read_adapter` raises, and
        UnsupportedModel naming the layers that fit no place.
        """
        file, found = read_adapter(adapter.file), Places(networks, denoiser)
        places, unplaced = _placed(file, found)
        if unplaced and convert is not None:
            file = read_adapter(adapter.file, convert)
            places, unplaced = _placed(file, found)
        if unplaced:
            raise UnsupportedModel(
                f"Of the {len(file.layers):,} layers that “{file.name}” changes, this model does not have "
                f"{len(unplaced):,}: {shown(unplaced)}.{_made_for(file)}"
            )
        for component, layers in places.items():
            for path, layer in layers.items():
                _require_fitting(file, layer, networks[component].get_parameter(f"{path}.weight"))
        if denoiser not in places:
            raise UnsupportedModel(
                f"“{file.name}” changes the text encoder alone, so there is nothing of the {_NAMES[denoiser]} that a "
                f"query could move. Try one that was trained with the {_NAMES[denoiser]}."
            )
        if adapter.weight != 1 and any(layer.kind == "dora" for layer in file.layers):
            raise UnsupportedModel(f"“{file.name}” is a DoRA, for which programs differ in what a weight means. Use 1.")
        return cls(file, adapter.weight, places)

    @property
    def deciding(self) -> list[str | float]:
        """What of it decides a loss, in JSON's types."""
        return [self.file.digest, self.weight]

    def attach(self, networks: Mapping[str, nn.Module]) -> AttachedAdapter:
        """Put the matrices into the networks, in float32."""
        from peft import inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer

        attached = list[BaseTunerLayer]()
        for component, layers in self.places.items():
            for kind in sorted({layer.kind for layer in layers.values()}):
                paths = [path for path, layer in layers.items() if layer.kind == kind]
                inject_adapter_in_model(_config(kind, paths), networks[component], adapter_name=kind)
            for path, layer in layers.items():
                tuner = networks[component].get_submodule(path)
                assert isinstance(tuner, BaseTunerLayer)
                _fill(tuner, layer, self.weight * self.file.scale_of(layer, component, path))
                attached.append(tuner)
            networks[component].eval().requires_grad_(False)
        return AttachedAdapter(attached)


def _placed(file: AdapterFile, found: Places) -> tuple[dict[str, dict[str, Layer]], list[str]]:
    """Layers by path, by component, and the names of those that fit no place or one that is taken."""
    places: dict[str, dict[str, Layer]] = {}
    unplaced = []
    for layer in file.layers:
        place = found.find(layer.key)
        if place is None or place[1] in places.get(place[0], {}):
            unplaced.append(layer.key)
        else:
            places.setdefault(place[0], {})[place[1]] = layer
    return places, unplaced


class AttachedAdapter:
    """The layers of a model that an adapter changes."""

    def __init__(self, layers: Sequence[BaseTunerLayer]) -> None:
        self._layers = layers

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """The networks as they are without the adapter, inside the block."""
        parameters = [p for layer in self._layers for p in layer.parameters()]
        learning = [p.requires_grad for p in parameters]  # which PEFT sets as it sees fit
        try:
            for layer in self._layers:
                layer.enable_adapters(False)
            yield
        finally:
            for layer in self._layers:
                layer.enable_adapters(True)
            for parameter, before in zip(parameters, learning, strict=True):
                parameter.requires_grad_(before)


def _config(kind: str, paths: list[str]) -> PeftConfig:
    """Of rank 1, as the matrices are replaced by the file's."""
    from peft import LoHaConfig, LoKrConfig, LoraConfig

    if kind == "loha":
        return LoHaConfig(r=1, alpha=1, target_modules=paths, init_weights=False)
    if kind == "lokr":
        return LoKrConfig(r=1, alpha=1, target_modules=paths, init_weights=False)
    return LoraConfig(r=1, lora_alpha=1, target_modules=paths, use_dora=kind == "dora")


@torch.no_grad()
def _fill(tuner: BaseTunerLayer, layer: Layer, scale: float) -> None:
    kind, parts, base = layer.kind, layer.parts, tuner.get_base_layer().weight
    tuner.scaling[kind] = scale
    if kind in ("lora", "dora"):
        tuner.r[kind] = parts["down"].shape[0]
        for matrices, shaped in zip((tuner.lora_A, tuner.lora_B), _shaped(layer, base), strict=True):
            matrices[kind].weight = nn.Parameter(shaped)
        if kind == "dora":
            magnitude = tuner.lora_magnitude_vector[kind]
            magnitude.weight = nn.Parameter(parts["magnitude"].reshape(magnitude.weight.shape).clone())
        return
    for name in tuner.adapter_layer_names:
        matrices = getattr(tuner, name)
        if kind in matrices:
            del matrices[kind]
        if name in parts:
            matrices[kind] = nn.Parameter(parts[name].clone())


def _shaped(layer: Layer, base: Tensor) -> tuple[Tensor, Tensor]:
    """Both matrices of a LoRA as the layer has its own: some trainers save 1 × 1 convolutions as matrices."""
    down, up = layer.parts["down"], layer.parts["up"]
    rank = down.shape[0]
    return down.reshape(rank, *base.shape[1:]).clone(), up.reshape(base.shape[0], rank, *(1,) * (base.ndim - 2)).clone()


def _require_fitting(file: AdapterFile, layer: Layer, base: Tensor) -> None:
    """Raise UnsupportedModel where a layer's matrices do not give a change of the base's weights."""
    parts, (outputs, *inputs) = layer.parts, base.shape
    width = torch.Size(inputs).numel()
    if layer.kind in ("lora", "dora"):
        rank = parts["down"].shape[0]
        fits = parts["down"].numel() == rank * width and parts["up"].numel() == outputs * rank
        if (magnitude := parts.get("magnitude")) is not None:  # one number for each output, not for each input
            fits &= magnitude.shape[0] == magnitude.numel() == outputs
        told = f"{parts['up'].shape[0]} × {parts['down'][0].numel()}"
    else:
        size = _size_of_change(parts)
        fits, told = size == base.numel(), f"{size:,} numbers"
    if not fits:
        raise UnsupportedModel(
            f"“{file.name}” was made for another base: its change of “{layer.key}” is {told}, but that layer is "
            f"{outputs} × {width}.{_made_for(file)}"
        )


def _size_of_change(parts: Mapping[str, Tensor]) -> int:
    """Of the product that a LoHa's or LoKr's matrices make."""

    def product(a: str, b: str, core: str) -> int:
        if core in parts:
            return parts[a].shape[1] * parts[b].shape[1] * parts[core].shape[2:].numel()
        return parts[a].shape[0] * parts[b].shape[1:].numel()

    if "hada_w1_a" in parts:
        first, second = (product(f"hada_w{n}_a", f"hada_w{n}_b", f"hada_t{n}") for n in (1, 2))
        return first if first == second else 0
    first = parts["lokr_w1"].numel() if "lokr_w1" in parts else product("lokr_w1_a", "lokr_w1_b", "")
    return first * (parts["lokr_w2"].numel() if "lokr_w2" in parts else product("lokr_w2_a", "lokr_w2_b", "lokr_t2"))


def _made_for(file: AdapterFile) -> str:
    made = f" It says that it was made for “{file.base}”." if file.base else ""
    return f"{made} Try it with the base model that it was trained on."
