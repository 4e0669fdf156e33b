"""The shipped training set is what its catalog says."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from conftest import ASSETS
from forwardinf.cli.main import app
from forwardinf.errors import DamagedAsset, MissingAsset
from forwardinf.examples.catalog import FILE_NAME, Catalog, words_of
from forwardinf.files.manifest import NAME, sha256_of
from forwardinf.training.artwork import COLLECTIONS, REPEATED_IMAGES, REPEATS, assign_splits


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load(ASSETS / "emoji")


def test_every_picture_is_there_untouched_and_as_large_as_recorded(catalog: Catalog):
    for image in catalog.images:
        path = catalog.path_of(image)
        assert sha256_of(path) == image.sha256, image.id
    for image in catalog.images[::50]:
        with Image.open(catalog.path_of(image)) as picture:
            assert picture.size == (image.width, image.height)
            assert picture.mode == "RGB"
            assert not picture.getexif()


def test_no_picture_lacks_a_row(catalog: Catalog):
    files = {p.relative_to(catalog.folder).as_posix() for p in (catalog.folder / "pictures").rglob("*.webp")}
    assert files == {image.file_name for image in catalog.images}


def test_every_row_credits_its_creator_licence_and_source(catalog: Catalog):
    for image in catalog.images:
        collection = COLLECTIONS[image.collection]
        assert image.creator
        assert image.source_file
        assert (image.licence, image.source_package) == (collection.licence, collection.package)
        assert image.licence_url.startswith("https://")
        assert image.caption == f"{image.subject}, {collection.style} style"
    assert len({i.creator for i in catalog.images if i.collection == "openmoji"}) > 50


def test_the_training_split_has_unique_captions_all_collections_and_forty_repeats(catalog: Catalog):
    train = catalog.of_split("train").images
    assert len(train) >= 3000
    assert len({image.caption for image in train}) == len(train)
    assert set(Counter(image.collection for image in train)) == set(COLLECTIONS)
    assert Counter(image.repeats for image in train)[REPEATS] == REPEATED_IMAGES
    assert catalog.images == tuple(assign_splits(list(catalog.images), seed=0))


def test_a_catalog_saves_to_the_same_bytes(catalog: Catalog, tmp_path: Path):
    first = sha256_of(Catalog(tmp_path, catalog.images).save())
    assert sha256_of(Catalog(tmp_path, Catalog.load(tmp_path).images).save()) == first


def test_a_missing_and_a_damaged_catalog_are_named(tmp_path: Path):
    with pytest.raises(MissingAsset, match=FILE_NAME):
        Catalog.load(tmp_path)
    shutil.copy(ASSETS / "emoji" / FILE_NAME, tmp_path)
    with pytest.raises(MissingAsset, match=NAME):
        Catalog.load(tmp_path)
    shutil.copy(ASSETS / "emoji" / NAME, tmp_path)
    whole = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedAsset, match=FILE_NAME):
        Catalog.load(tmp_path)


def test_no_flipped_bit_of_the_catalog_is_loaded(tmp_path: Path):
    shutil.copy(ASSETS / "emoji" / NAME, tmp_path)
    whole = (ASSETS / "emoji" / FILE_NAME).read_bytes()
    draw = random.Random(0)
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        (tmp_path / FILE_NAME).write_bytes(flipped)
        with pytest.raises(DamagedAsset, match=FILE_NAME):
            Catalog.load(tmp_path)


def test_a_picture_that_is_not_the_catalogued_one_is_named_when_it_is_read(catalog: Catalog, tmp_path: Path):
    image = catalog.images[0]
    copied = Catalog(tmp_path, (image,))
    path = copied.path_of(image)
    path.parent.mkdir(parents=True)
    with pytest.raises(MissingAsset, match=image.id):
        copied.picture(image)
    path.write_bytes(catalog.read_bytes(image))
    assert copied.picture(image).size == (image.width, image.height)
    copied.verify()
    flipped = bytearray(path.read_bytes())
    flipped[-1] ^= 1
    path.write_bytes(flipped)
    for read in (copied.picture, lambda image: copied.verify()):
        with pytest.raises(DamagedAsset, match=f"“{image.id}”.*not the one that was catalogued"):
            read(image)


def test_known_words_are_those_of_training_captions(catalog: Catalog):
    assert set(words_of("Pineapple, NOTO style!")) <= catalog.words
    assert not set(words_of("яблоко zzyzx")) & catalog.words


def test_assets_stay_small():
    sizes = [path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()]
    assert sum(sizes) <= 150e6
    assert max(sizes) <= 45e6


def test_the_command_line_verifies_every_picture(catalog: Catalog, tmp_path: Path):
    few = Catalog(tmp_path, catalog.images[:3])
    for image in few.images:
        few.path_of(image).parent.mkdir(parents=True, exist_ok=True)
        few.path_of(image).write_bytes(catalog.read_bytes(image))
    few.save()
    assert "3 pictures, each as catalogued" in CliRunner().invoke(app, ["artwork", "verify", str(tmp_path)]).output
    few.path_of(few.images[2]).write_bytes(b"")
    refused = CliRunner().invoke(app, ["artwork", "verify", str(tmp_path)])
    assert f"“{few.images[2].id}”" in str(refused.exception)
