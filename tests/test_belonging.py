"""What a LoRA states of its training set is held against a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from forwardinf.cli.main import app
from forwardinf.examples.belonging import compared
from forwardinf.examples.metadata import training_images

STATED = {
    "ss_dataset_dirs": json.dumps({"10_sks dog": {"n_repeats": 10, "img_count": 2}}),
    "ss_tag_frequency": json.dumps({"10_sks dog": {"sks dog": 2, "on a sofa": 1}}),
    "ss_flip_aug": "False",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of a dog, shown ten times each."""
    dogs = tmp_path / "set" / "10_sks dog"
    dogs.mkdir(parents=True)
    for name, caption in (("a", "sks dog, on a sofa"), ("b", "SKS dog")):
        Image.new("RGB", (8, 8)).save(dogs / f"{name}.png")
        (dogs / f"{name}.txt").write_text(caption)
    return tmp_path / "set"


def verdicts(folder: Path, **other: object) -> dict[str, str]:
    found = compared(STATED | {key: json.dumps(value) for key, value in other.items()}, training_images(folder))
    return {one.of: one.verdict for one in found}


def test_a_folder_as_stated_agrees(folder: Path):
    assert set(verdicts(folder).values()) == {"agrees"}


def test_each_difference_is_told(folder: Path):
    one_more = {"10_sks dog": {"n_repeats": 10, "img_count": 3}}
    assert verdicts(folder, ss_dataset_dirs=one_more) | {"pictures": "agrees"} == verdicts(folder)
    assert verdicts(folder, ss_dataset_dirs=one_more)["pictures"] == "differs"
    shown_less = {"10_sks dog": {"n_repeats": 5, "img_count": 2}}
    assert verdicts(folder, ss_dataset_dirs=shown_less)["repeats"] == "differs"
    elsewhere = {"10_cat": {"n_repeats": 10, "img_count": 2}}
    assert verdicts(folder, ss_dataset_dirs=elsewhere)["repeats"] == "differs"
    assert verdicts(folder, ss_tag_frequency={"x": {"sks dog": 2, "on a lawn": 1}})["tags"] == "differs"
    told = compared(STATED | {"ss_tag_frequency": '{"x": {"sks dog": 2, "lawn": 1}}'}, training_images(folder))[2].told
    assert told == "stated but rarer here: “lawn”; not stated so often: “on a sofa”"
    assert compared(STATED | {"ss_flip_aug": "True"}, training_images(folder))[3].verdict == "differs"


@pytest.mark.parametrize("metadata", [{}, dict.fromkeys(STATED, "no JSON"), dict.fromkeys(STATED, "[]")])
def test_what_is_not_stated_is_said_to_be_so(folder: Path, metadata: dict[str, str]):
    found = compared({**metadata, "ss_flip_aug": "None"} if metadata else metadata, training_images(folder))
    assert {one.verdict for one in found[:3]} == {"not stated"}


def test_metadata_of_other_shapes_differs(folder: Path):
    assert set(verdicts(folder, ss_dataset_dirs={"x": [1]}, ss_tag_frequency={"x": {"a": None}}).values()) == {
        "differs", "agrees"
    }  # fmt: skip


def test_the_command_line_prints_a_line_each(folder: Path, tmp_path: Path):
    tensors = {f"lora_unet_x.lora_{part}.weight": torch.zeros(1, 1) for part in ("up", "down")}
    save_file(tensors, tmp_path / "dog.safetensors", STATED)
    done = CliRunner().invoke(app, ["index", "check", str(folder), "--lora", str(tmp_path / "dog.safetensors")])
    lines = done.stdout.splitlines()
    assert lines[0] == "pictures  agrees      stated 2 in “10_sks dog”; 2 in the folder"
    assert [line.split()[1] for line in lines] == ["agrees"] * 4
