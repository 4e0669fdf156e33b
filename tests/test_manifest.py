"""A folder's files are those that its manifest records, or the first that is not is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from forwardinf.errors import DamagedAsset, MissingAsset
from forwardinf.files import manifest
from forwardinf.files.manifest import NAME, Manifest, verify_manifest, write_manifest


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


BROKEN = {
    "": "not JSON",
    '{"files": 3': "not JSON",
    "null": "no object of files",
    "[]": "no object of files",
    "{}": "no object of files",
    '"files"': "no object of files",
    '{"schema": 1, "files": []}': "no object of files",
    '{"schema": 1, "files": "config.json"}': "no object of files",
    '{"schema": 1, "files": {}}': "records no file",
    '{"files": {"config.json": "DIGEST"}}': "schema is null",
    '{"schema": 2, "files": {"config.json": "DIGEST"}}': "schema is 2",
    '{"schema": 1, "files": {"config.json": 3}}': "no SHA-256 for “config.json”",
    '{"schema": 1, "files": {"config.json": "abc"}}': "no SHA-256 for “config.json”",
    '{"schema": 1, "files": {"../outside": "DIGEST"}}': "“../outside”, which is not",
    '{"schema": 1, "files": {"unet/../../outside": "DIGEST"}}': "which is not",
    '{"schema": 1, "files": {"/etc/passwd": "DIGEST"}}': "“/etc/passwd”, which is not",
    '{"schema": 1, "files": {"": "DIGEST"}}': "“”, which is not",
    '{"schema": 1, "files": {"unet//config.json": "DIGEST"}}': "which is not",
    '{"schema": 1, "files": {"./config.json": "DIGEST"}}': "which is not",
    '{"schema": 1, "files": {"manifest.json": "DIGEST"}}': "“manifest.json”, which is not",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_manifest_is_blamed_itself(folder: Path, text: str):
    (folder / NAME).write_text(text.replace("DIGEST", "0" * 64))
    with pytest.raises(DamagedAsset, match=BROKEN[text]) as caught:
        verify_manifest(folder)
    assert f"model/{NAME}” itself is damaged" in str(caught.value)


def test_bytes_that_are_no_text_are_a_broken_manifest(folder: Path):
    (folder / NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedAsset, match="itself is damaged"):
        verify_manifest(folder)


def test_the_remedy_depends_on_whose_folder_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "config.json").unlink()
    with pytest.raises(MissingAsset, match=r"model/config\.json” is missing\. Build it again\.$"):
        Manifest.read(folder, "Build it again.").verify()
    with pytest.raises(MissingAsset, match="where it came from") as caught:
        verify_manifest(folder)
    assert "git" not in str(caught.value)
    monkeypatch.setattr(manifest, "ASSETS", folder.parent)
    with pytest.raises(MissingAsset, match=r"git checkout -- .*/model\)"):
        Manifest.read(folder, "Build it again.").verify()


def test_the_shipped_folders_say_how_to_restore_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assets = tmp_path / "assets"
    (assets / "lab").mkdir(parents=True)
    monkeypatch.setattr(manifest, "ASSETS", assets)
    with pytest.raises(MissingAsset, match=r"git checkout -- assets/lab\)\.$"):
        verify_manifest(assets / "lab")


def test_what_is_read_is_what_was_recorded(folder: Path):
    opened = Manifest.read(folder)
    opened.verify()
    assert opened.read_bytes("config.json") == b"{}"
    (folder / "config.json").write_text("[]")
    with pytest.raises(DamagedAsset, match=r"model/config\.json” differs"):
        opened.read_bytes("config.json")
    (folder / "config.json").unlink()
    with pytest.raises(MissingAsset, match=r"model/config\.json” is missing"):
        opened.read_bytes("config.json")
    (folder / "config.json").mkdir()
    with pytest.raises(MissingAsset, match="cannot be read: Is a directory"):
        opened.read_bytes("config.json")
    with pytest.raises(MissingAsset, match=r"records no other\.json"):
        opened.read_bytes("other.json")


def test_a_verified_file_is_read_again_only_where_it_was_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(manifest, "SETTLED", 10**18)
    names = sorted(Manifest.read(folder).files)
    name, read = names[0], list[str]()
    hashed = manifest.sha256_of
    monkeypatch.setattr(manifest, "sha256_of", lambda path: read.append(str(path)) or hashed(path))
    kept = Manifest.read(folder)
    kept.verify()
    assert kept.verified(name) == folder / name
    assert len(read) == len(names) + 1  # it is too new for its times to tell a later write
    monkeypatch.setattr(manifest, "SETTLED", -1)
    kept.verified(name)
    read.clear()
    assert kept.verified(name) == kept.without_files(names[-1]).verified(name) == folder / name
    assert read == []
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content)
    kept.verified(name)
    assert len(read) == 1
    (folder / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(DamagedAsset, match="differs"):
        kept.verified(name)
    with pytest.raises(MissingAsset, match="records no"):
        kept.verified("another")


def test_files_may_be_added_and_dropped_without_reading_the_others_again(folder: Path):
    first = Manifest.read(folder)
    (folder / "unet" / "weights.bin").write_bytes(b"damaged")  # and does not become sound by what is recorded beside it
    (folder / "null.npz").write_text("scores")
    first.with_files("null.npz").write()
    added = Manifest.read(folder)
    assert set(added.files) == {*first.files, "null.npz"}
    assert added.fingerprint != first.fingerprint
    with pytest.raises(DamagedAsset, match=r"weights\.bin"):
        added.verify()
    assert added.without_files("null.npz").fingerprint == first.fingerprint


def test_the_fingerprint_is_the_digest_of_the_file_itself(folder: Path):
    assert Manifest.read(folder).fingerprint == manifest.sha256_of(folder / NAME)
    shutil.copytree(folder, folder.parent / "copy")
    assert verify_manifest(folder.parent / "copy") == verify_manifest(folder)
    assert json.loads((folder / NAME).read_text())["schema"] == manifest.SCHEMA


def test_messages_never_show_the_machines_path(folder: Path):
    (folder / "config.json").unlink()
    with pytest.raises(MissingAsset) as caught:
        verify_manifest(folder)
    assert str(folder.parent) not in str(caught.value)


def test_a_fingerprint_besides_some_files_does_not_know_them(folder: Path):
    before = Manifest.read(folder)
    (folder / "config.json").write_text("other")
    write_manifest(folder)
    after = Manifest.read(folder)
    assert after.fingerprint != before.fingerprint
    assert after.fingerprint_besides("config.*") == before.fingerprint_besides("config.*")
    assert after.fingerprint_besides("*.safetensors") != before.fingerprint_besides("*.safetensors")


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
