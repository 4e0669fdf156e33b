"""A folder in diffusers' format before it is read: whether all is there, and as which variant."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import DamagedAsset, MissingAsset, UnsupportedModel

INDEX = "model_index.json"
ADAPTERS = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")  # as diffusers and PEFT name them
# One file of a network, of whichever variant, or a part of one.
_WEIGHTS = re.compile(
    r"(diffusion_pytorch_)?model(\.(?P<variant>\w+))?(-\d{5}-of-\d{5})?(\.(?P<late>\w+))?\.safetensors"
)


def require_whole(folder: Path, needed: tuple[str, ...]) -> None:
    """Raise MissingAsset where a component's folder is missing; diffusers would put an empty tokenizer in its place.

    Raises UnsupportedModel where model_index.json says that it has none of the `needed`.
    """
    index = _index(folder)
    for name in needed:
        if (index.get(name) or [None])[0] is None:
            raise UnsupportedModel(
                f"“{folder.name}” has no {name}, which a text-to-image model of this kind needs. If it is a refiner "
                "or an upscaler, try the base model; else a complete copy."
            )
        if not (folder / name).is_dir():
            raise MissingAsset(
                f"The model “{folder.name}” names a {name} in {INDEX}, but its folder {name}/ is missing. The "
                "download may have been cut short; try a complete copy."
            )


def variant_of(folder: Path, needed: tuple[str, ...]) -> str | None:
    """The variant, such as fp16, that networks are there as where the plain files are not; None where they are.

    Raises UnsupportedModel for pickles and where it is not clear which variant is meant, MissingAsset for no weights.
    """
    common: set[str] | None = None
    for network in (folder / name for name in needed if (folder / name / "config.json").is_file()):
        matches = [match for file in network.iterdir() if (match := _WEIGHTS.fullmatch(file.name))]
        variants = {match["variant"] or match["late"] for match in matches}
        if not variants:
            _refuse_weightless(folder, network)
        if None not in variants:
            named = {str(variant) for variant in variants}
            common = named if common is None else common & named
            if not common:
                raise UnsupportedModel(f"“{folder.name}” has its networks in different variants. Try a complete copy.")
    if common is not None and len(common) > 1:
        raise UnsupportedModel(
            f"“{folder.name}” has its weights only in the variants {' and '.join(sorted(common))}, which may differ by "
            "more than rounding. Move those that are not meant out of the folder."
        )
    return None if common is None else next(iter(common))


def require_no_idle_adapter(folder: Path) -> None:
    """Raise UnsupportedModel where an adapter lies in a checkpoint's folder, whose losses would miss it."""
    beside = [
        file for name in ADAPTERS for file in (folder / name, *sorted(folder.glob(f"*/{name}"))) if file.is_file()
    ]
    if beside:
        raise UnsupportedModel(
            f"“{folder.name}” has an adapter beside its networks, {beside[0].relative_to(folder)}, which would not be "
            "used. Name that file with --lora, or take it out of the folder."
        )


def instead(folder: Path) -> str:
    """What a folder without model_index.json is, and what to name instead of it."""
    if adapter := next((name for name in ADAPTERS if (folder / name).is_file()), None):
        return (
            f"“{folder.name}” is an adapter, not a checkpoint. Name {adapter} with --lora, and with --model its base."
        )
    if (folder / "unet" / "config.json").is_file():
        return (
            f"“{folder.name}” has a unet/ alone, as training leaves it, without {INDEX}. Put that unet/ into a copy of "
            "the base model's folder, in place of its own, and name the copy."
        )
    files = sorted(file.name for file in folder.glob("*.safetensors"))
    if files:
        return f"“{folder.name}” has no {INDEX}. If {files[0]} in it is a whole checkpoint, name that file."
    return f"“{folder.name}” has no {INDEX}, so it is not a diffusers pipeline. Name the folder that has it."


def _refuse_weightless(folder: Path, network: Path) -> None:
    if any(network.glob("*.bin")):
        raise UnsupportedModel(
            f"“{folder.name}” has its {network.name} as a pickle (.bin), which can run any program when it is opened, "
            "so it is not. Write .safetensors files beside them with: forwardinf model safetensors FOLDER"
        )
    raise MissingAsset(
        f"“{folder.name}” has no weights in {network.name}/. The download may have been cut short; try a complete copy."
    )


def _index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / INDEX).read_bytes())
    except FileNotFoundError as error:
        raise MissingAsset(instead(folder)) from error
    except ValueError as error:
        raise DamagedAsset(f"{INDEX} of “{folder.name}” is not JSON: {error}.") from error
    return index if isinstance(index, dict) else {}
