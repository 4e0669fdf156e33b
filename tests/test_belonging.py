"""What a LoRA states of its training set is held against a folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from forwardinf.cli.main import app
from forwardinf.examples.belonging import compared
from forwardinf.examples.buckets import bucket_of, bucket_shapes
from forwardinf.examples.metadata import training_images

STATED = {
    "ss_dataset_dirs": json.dumps({"10_sks dog": {"n_repeats": 10, "img_count": 2}}),
    "ss_tag_frequency": json.dumps({"10_sks dog": {"sks dog": 2, "on a sofa": 1}}),
    "ss_flip_aug": "False",
    "ss_color_aug": "False",
    "ss_bucket_info": json.dumps({"buckets": {"0": {"resolution": [512, 512], "count": 20}}}),
    "ss_resolution": "(512, 512)",
    "ss_validation_split": "0.0",
}
SETS = {
    "ss_datasets": json.dumps(
        [
            {
                "resolution": [512, 512],
                "min_bucket_reso": 256,
                "max_bucket_reso": 1024,
                "num_reg_images": 0,
                "bucket_info": {"buckets": {"0": {"resolution": [512, 512], "count": 20}}},
                "subsets": [
                    {"image_dir": "10_sks dog", "img_count": 2, "num_repeats": 10, "flip_aug": True, "is_reg": False},
                    {"image_dir": "1_dog", "img_count": 50, "num_repeats": 1, "is_reg": True},
                ],
            }
        ]
    )
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


def told_of(folder: Path, of: str, metadata: dict[str, str], base: Path | None = None) -> tuple[str, str]:
    return next((one.verdict, one.told) for one in compared(metadata, training_images(folder), base) if one.of == of)


def test_a_folder_as_stated_agrees(folder: Path):
    assert verdicts(folder) == dict.fromkeys(verdicts(folder), "agrees") | {"base": "not stated"}


def test_a_list_of_sets_is_read_as_the_keys_of_one(folder: Path):
    found = {one.of: one.verdict for one in compared(SETS, training_images(folder), flip=True)}
    assert {of for of, verdict in found.items() if verdict == "agrees"} == {"pictures", "repeats", "flips", "buckets"}
    assert told_of(folder, "flips", SETS) == (
        "differs",
        "it was trained on mirrored pictures too, which are not measured",
    )


def test_changes_that_are_not_measured_are_named(folder: Path):
    stated = STATED | {"ss_random_crop": "True", "ss_shuffle_caption": "True"}
    assert told_of(folder, "changes", stated) == ("differs", "crops at random, tags shuffled: not done here")


def test_pictures_are_counted_by_the_bucket_they_fall_into(folder: Path):
    Image.new("RGB", (30, 20)).save(folder / "10_sks dog" / "a.png")
    told = "stated 20 in 1; 20 from the folder: 512 × 512 (20 stated, 10 here), 640 × 384 (0 stated, 10 here)"
    assert told_of(folder, "buckets", STATED) == ("differs", told)
    assert told_of(folder, "buckets", STATED | {"ss_bucket_no_upscale": "True"})[0] == "agrees"
    regularised = told_of(folder, "buckets", STATED | {"ss_num_reg_images": "50"})
    assert regularised == ("not stated", "pictures that only regularise are counted among them")


def test_shapes_and_the_nearest_of_them_are_those_of_sd_scripts():
    shapes = bucket_shapes((512, 512))
    assert len(shapes) == 17
    assert shapes[0] == (256, 832)
    assert shapes[-1] == (1024, 256)
    assert all(w % 64 == h % 64 == 0 and min(w, h) >= 256 and w * h <= 512 * 512 for w, h in shapes)
    assert bucket_of((1024, 1024), shapes) == (512, 512)
    assert bucket_of((640, 384), shapes) == (640, 384)
    assert bucket_of((300, 100), shapes) == (832, 256)
    assert bucket_of((10, 900), shapes) == (256, 1024)


def test_pictures_held_out_for_validation_are_counted(folder: Path):
    stated = STATED | {"ss_validation_split": "0.5", "ss_num_validation_images": "1"}
    assert told_of(folder, "validation", stated) == (
        "differs", "stated 1 held out of training; 0 of the folder are held_out"
    )  # fmt: skip
    lines = [
        {"file_name": f"10_sks dog/{n}.png", "text": "", "split": s} for n, s in (("a", "train"), ("b", "held_out"))
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert told_of(folder, "validation", stated)[0] == "agrees"
    del stated["ss_num_validation_images"]
    assert told_of(folder, "validation", stated)[0] == "agrees"


def test_the_base_is_known_by_either_hash(folder: Path, tmp_path: Path):
    base = tmp_path / "base.safetensors"
    base.write_bytes(bytes(2**20) + b"weights" * 2**14)
    old = {"ss_sd_model_hash": hashlib.sha256((b"weights" * 2**14)[: 2**16]).hexdigest()[:8]}
    new = old | {"ss_new_sd_model_hash": hashlib.sha256(base.read_bytes()).hexdigest()}
    for stated in (old, new):
        assert told_of(folder, "base", stated, base)[0] == "agrees"
        assert told_of(folder, "base", stated)[0] == "not stated"
    assert told_of(folder, "base", new | {"ss_new_sd_model_hash": "0" * 64, "ss_sd_model_name": "sd.ckpt"}, base) == (
        "differs",
        f"stated 000000000000 of “sd.ckpt”; “base.safetensors” has {new['ss_new_sd_model_hash'][:12]}",
    )
    of_folder = {"ss_sd_model_hash": "IsADirectory", "ss_sd_model_name": "sd15"}
    assert told_of(folder, "base", of_folder, base) == ("not stated", "no hash of “sd15”")
    assert told_of(folder, "base", new, folder)[1].endswith("“set” is no file, and has no such hash")


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
        "differs", "agrees", "not stated"
    }  # fmt: skip


def test_the_command_line_prints_a_line_each(folder: Path, tmp_path: Path):
    tensors = {f"lora_unet_x.lora_{part}.weight": torch.zeros(1, 1) for part in ("up", "down")}
    save_file(tensors, tmp_path / "dog.safetensors", STATED)
    done = CliRunner().invoke(app, ["index", "check", str(folder), "--lora", str(tmp_path / "dog.safetensors")])
    lines = done.stdout.splitlines()
    assert lines[0] == "pictures   agrees     stated 2 in “10_sks dog”; 2 in the folder"
    assert [line.split()[1] for line in lines] == ["agrees"] * 7 + ["not"]
