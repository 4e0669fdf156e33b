from __future__ import annotations

from pathlib import Path

import pytest

from forwardinf.errors import DamagedAsset, MissingAsset
from forwardinf.files.manifest import NAME, fingerprint_besides, verify_manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "weights.bin").write_bytes(bytes(1000))
    (folder / "config.json").write_text("{}")
    write_manifest(folder)
    return folder


def test_an_untouched_folder_verifies_to_a_stable_fingerprint(folder: Path):
    first = verify_manifest(folder)
    write_manifest(folder)
    assert verify_manifest(folder) == first


def test_one_flipped_bit_is_found_and_named(folder: Path):
    weights = bytearray((folder / "unet" / "weights.bin").read_bytes())
    weights[500] ^= 1
    (folder / "unet" / "weights.bin").write_bytes(weights)
    with pytest.raises(DamagedAsset, match=r"model/unet/weights\.bin"):
        verify_manifest(folder)


def test_a_missing_file_and_a_missing_manifest_are_named(folder: Path):
    (folder / "config.json").unlink()
    with pytest.raises(MissingAsset, match=r"model/config\.json"):
        verify_manifest(folder)
    (folder / NAME).unlink()
    with pytest.raises(MissingAsset, match=NAME):
        verify_manifest(folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"files": 3'])
def test_a_broken_manifest_is_an_error_of_its_own(folder: Path, text: str):
    (folder / NAME).write_text(text)
    with pytest.raises(DamagedAsset, match=NAME):
        verify_manifest(folder)


def test_messages_never_show_the_machines_path(folder: Path):
    (folder / "config.json").unlink()
    with pytest.raises(MissingAsset) as caught:
        verify_manifest(folder)
    assert str(folder.parent) not in str(caught.value)


def test_a_fingerprint_besides_some_files_does_not_know_them(folder: Path):
    write_manifest(folder)
    whole, besides = verify_manifest(folder), fingerprint_besides(folder, "config.*")
    (folder / "config.json").write_text("other")
    write_manifest(folder)
    assert verify_manifest(folder) != whole
    assert fingerprint_besides(folder, "config.*") == besides
    assert fingerprint_besides(folder, "*.safetensors") != besides
    (folder / NAME).unlink()
    with pytest.raises(MissingAsset, match=NAME):
        fingerprint_besides(folder, "config.*")


def test_files_that_go_on_growing_may_be_left_out(folder: Path):
    (folder / "unet" / "journal.jsonl").write_text("{}\n")
    write_manifest(folder, besides="*.jsonl")
    first = verify_manifest(folder)
    (folder / "unet" / "journal.jsonl").write_text("{}\n{}\n")
    assert verify_manifest(folder) == first
    write_manifest(folder)
    (folder / "unet" / "journal.jsonl").unlink()
    with pytest.raises(MissingAsset, match=r"journal\.jsonl"):
        verify_manifest(folder)
