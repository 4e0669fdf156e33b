"""Folders in diffusers' format as people have them: variants, pickles, parts, and what lies beside the networks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import tiny_pipeline
from forwardinf.errors import ForwardInfError, MissingAsset, UnsupportedModel
from forwardinf.models.pickled import as_safetensors
from forwardinf.models.registry import load_model
from forwardinf.types import ModelSpec

UNET = Path("unet") / "diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def fingerprint(folder: Path) -> str:
    return load_model(ModelSpec(str(folder))).fingerprint


def as_variant(folder: Path, file: Path, variant: str) -> Path:
    return (folder / file).rename(folder / file.with_suffix(f".{variant}.safetensors"))


def pickled(folder: Path, file: Path) -> None:
    weights = load_file(folder / file)
    (folder / file).unlink()
    torch.save(weights, (folder / file).with_suffix(".bin"))


def test_a_variant_is_read_where_the_plain_files_are_not(tiny_checkpoint: Path, tmp_path: Path):
    tiny_pipeline().save_pretrained(tmp_path / "fp16", variant="fp16")
    assert not (tmp_path / "fp16" / UNET).exists()
    assert fingerprint(tmp_path / "fp16") == fingerprint(tiny_checkpoint)


def test_plain_files_come_before_a_variant(tiny_checkpoint: Path, copy: Path):
    weights = {name: torch.zeros_like(value) for name, value in load_file(copy / UNET).items()}
    save_file(weights, copy / UNET.with_suffix(".fp16.safetensors"))
    assert fingerprint(copy) == fingerprint(tiny_checkpoint)


def test_a_variant_of_one_network_is_read_beside_plain_others(tiny_checkpoint: Path, copy: Path):
    as_variant(copy, UNET, "non_ema")
    assert fingerprint(copy) == fingerprint(tiny_checkpoint)


def test_variants_among_which_nobody_can_choose_are_named(copy: Path):
    other = as_variant(copy, UNET, "non_ema")
    shutil.copy(other, copy / UNET.with_suffix(".fp16.safetensors"))
    with pytest.raises(UnsupportedModel, match=r"fp16 and non_ema.*Move those"):
        load_model(ModelSpec(str(copy)))


def test_pickles_are_refused_with_the_step_that_makes_them_readable(tiny_checkpoint: Path, copy: Path):
    pickled(copy, UNET)
    with pytest.raises(UnsupportedModel, match=r"its unet as a pickle.*forwardinf model safetensors FOLDER"):
        load_model(ModelSpec(str(copy)))
    assert as_safetensors(copy) == [copy / UNET]
    assert fingerprint(copy) == fingerprint(tiny_checkpoint)


def test_pickles_of_transformers_get_the_name_that_it_looks_for(copy: Path):
    (copy / "text_encoder" / "model.safetensors").unlink()
    torch.save({"x": torch.ones(2)}, copy / "text_encoder" / "pytorch_model.bin")
    assert as_safetensors(copy) == [copy / "text_encoder" / "model.safetensors"]


def test_a_folder_without_pickles_has_none_to_write_down(tiny_checkpoint: Path):
    with pytest.raises(MissingAsset, match=r"no folder with files that end in \.bin"):
        as_safetensors(tiny_checkpoint)


def alone(*kept: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        for entry in list(folder.iterdir()):
            if entry.name not in kept:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    return change


def weightless(folder: Path) -> None:
    (folder / UNET).unlink()


def nameless(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_bytes())
    (folder / "model_index.json").write_text(json.dumps({**index, "text_encoder": [None, None]}))


def file_inside(name: str, *before: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        for earlier in before:
            earlier(folder)
        save_file({"x": torch.zeros(1)}, folder / name)

    return change


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a LoRA's folder": (file_inside("pytorch_lora_weights.safetensors", alone()), r"is an adapter.*--lora.*--model"),
    "a training checkpoint": (alone("unet"), r"has a unet/ alone.*Put that unet/ into a copy of the base"),
    "a folder of files": (file_inside("model.safetensors", alone()), r"model\.safetensors in it is a whole checkpoint"),
    "an empty folder": (alone(), r"no model_index\.json.*Name the folder that has it"),
    "no weights": (weightless, r"no weights in unet/"),
    "no text encoder": (nameless, r"has no text_encoder, which"),
    "a LoRA in the folder": (file_inside("pytorch_lora_weights.safetensors"), "would not be used.*--lora"),
    "a LoRA in a component": (
        file_inside("unet/adapter_model.safetensors"),
        r"unet/adapter_model\.safetensors, which would not be used",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_that_is_no_whole_model_is_refused_with_what_to_do(kind: str, copy: Path):
    change, told = REFUSED[kind]
    change(copy)
    with pytest.raises(ForwardInfError, match=told) as caught:
        load_model(ModelSpec(str(copy)))
    assert str(copy.parent) not in str(caught.value)
