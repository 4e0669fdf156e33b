"""Thumbnails: a file for each shard, or for each image in indexes of before, with the same fingerprint."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution.build_sketch import build_sketch
from forwardinf.errors import DamagedAsset, MissingAsset
from forwardinf.examples import catalog as catalogs
from forwardinf.examples.metadata import training_images
from forwardinf.files.manifest import Manifest
from forwardinf.index import store
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.mean_file import MEAN
from forwardinf.index.store import Index
from forwardinf.index.thumbnails import name_of, pack_name, thumbnail_of, write_pack
from forwardinf.models.sd import StableDiffusion
from forwardinf.types import ModelSpec

COUNT = 6
PLAN = BuildPlan(draws=2, fisher_images=3, fisher_draws=1, shard_size=4)
NAMES = [name_of(number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"), COUNT)


@pytest.fixture(scope="module")
def packed(folder: Path, model: StableDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Index:
    out = tmp_path_factory.mktemp("index") / "packed"
    return build_sketch(model, build_index(model, training_images(folder), out, PLAN))


@pytest.fixture
def loose(packed: Index, tmp_path: Path) -> Index:
    """The same index with a file for each thumbnail."""
    out = shutil.copytree(packed.folder, tmp_path / "loose")
    for name in NAMES:
        (out / name).write_bytes(packed.thumbnail_files.read(name))
    for shard in range(packed.info.shard_count):
        (out / pack_name(shard)).unlink()
    names = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    Manifest(out, {}).with_files(*(name for name in names if name != "manifest.json")).write()
    return Index.open(out)


def test_there_is_a_file_for_each_shard_and_none_for_an_image(packed: Index):
    files = {path.name for path in (packed.folder / "thumbnails").iterdir()}
    assert files == {Path(pack_name(shard)).name for shard in range(2)}


def test_an_index_with_a_file_for_each_image_opens_and_has_the_same_fingerprint(packed: Index, loose: Index):
    assert not loose.thumbnail_files.is_packed
    assert (loose.fingerprint, loose.measured_fingerprint) == (packed.fingerprint, packed.measured_fingerprint)
    assert dict(loose.thumbnail_files.digests) == dict(packed.thumbnail_files.digests)
    assert [loose.thumbnail_files.read(name) for name in NAMES] == [packed.thumbnail_files.read(name) for name in NAMES]
    for index in (loose, packed):
        shown = index.thumbnails
        assert [shown.picture(image).size for image in shown.images] == [(32, 32)] * COUNT
        shown.verify()


def test_a_build_into_an_index_of_before_packs_it_and_keeps_the_rest(
    folder: Path, model: StableDiffusion, packed: Index, loose: Index, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(catalogs, "decode_training_picture", lambda data, name: pytest.fail(f"{name} was decoded"))
    again = build_index(model, training_images(folder), loose.folder, PLAN)
    assert again.manifest.files == packed.manifest.files
    assert {path.name for path in (again.folder / "thumbnails").iterdir()} == {"00000.safetensors", "00001.safetensors"}


def test_another_thumbnail_makes_another_fingerprint(packed: Index, tmp_path: Path):
    copy = shutil.copytree(packed.folder, tmp_path / "copy")
    files = [packed.thumbnail_files.read(name) for name in NAMES[:4]]
    write_pack(copy, 0, [*files[:3], files[0]])
    other = replace(packed, manifest=replace(packed.manifest, folder=copy).with_files(pack_name(0)))
    assert other.fingerprint != packed.fingerprint


@pytest.mark.parametrize("at", ["header", "picture"])
def test_what_changed_since_the_index_was_opened_is_refused_when_it_is_read(packed: Index, tmp_path: Path, at: str):
    copy = shutil.copytree(packed.folder, tmp_path / "copy")
    path, index = copy / pack_name(1), Index.open(copy)
    assert index.fingerprint == packed.fingerprint  # for which the tables are read
    content = bytearray(path.read_bytes())
    content[0 if at == "header" else len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedAsset, match=r"00001\.safetensors"):
        _ = [index.thumbnail_files.read(name) for name in NAMES[4:]]
    assert index.thumbnail_files.read(NAMES[0]) == packed.thumbnail_files.read(NAMES[0])
    with pytest.raises(DamagedAsset, match=r"00001\.safetensors"):
        Index.open(copy)
    path.unlink()
    with pytest.raises(MissingAsset, match=r"00001\.safetensors” is missing"):
        index.thumbnail_files.read(NAMES[4])


@pytest.mark.parametrize("name", ["thumbnails/000006.webp", "thumbnails/x.webp", "catalog.parquet", pack_name(0)])
def test_only_thumbnails_are_given_out(packed: Index, name: str):
    with pytest.raises(MissingAsset, match="has no"):
        packed.thumbnail_files.read(name)


def test_examples_are_read_by_row_and_the_mean_latents_are_kept(packed: Index, monkeypatch: pytest.MonkeyPatch):
    ids = [image.id for image in packed.catalog.images]
    rows = torch.cat([shard.batch.latents for shard in packed.shards()])
    conditioning = torch.cat([shard.batch.conditioning for shard in packed.shards()])
    fresh = Index.open(packed.folder)
    monkeypatch.setattr(store, "load_shard", lambda *_: pytest.fail("a whole shard was read"))
    found = fresh.examples([ids[5], ids[0], ids[2]])
    assert found.example_ids == (ids[0], ids[2], ids[5])
    assert torch.equal(found.latents, rows[[0, 2, 5]])
    assert torch.equal(found.conditioning, conditioning[[0, 2, 5]])
    assert torch.equal(fresh.mean_latents, (rows.double().sum(dim=0) / COUNT).float())
    assert fresh.base_losses.shape == (COUNT, 2)


def test_an_index_without_its_mean_takes_it_from_the_shards(packed: Index):
    without = replace(packed, manifest=packed.manifest.without_files(MEAN))
    assert torch.equal(without.mean_latents, packed.mean_latents)
    assert without.fingerprint == packed.fingerprint


def test_images_are_found_by_the_words_of_their_captions(packed: Index):
    catalog = packed.catalog
    assert list(catalog.with_word["patch"]) == list(range(COUNT))
    assert list(catalog.with_word["3"]) == [3]
    assert "nothing" not in catalog.with_word


def test_each_is_the_picture_made_small(packed: Index, folder: Path):
    source = training_images(folder)
    for number, image in enumerate(source.images):
        content = packed.thumbnail_files.read(name_of(number))
        assert content == thumbnail_of(source.picture(image))
        assert packed.thumbnail_files.digests[name_of(number)] == hashlib.sha256(content).hexdigest()
