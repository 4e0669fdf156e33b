"""The embedder `artwork`: what ships, and how it is fitted."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from test_embedders import pictures

from conftest import ASSETS
from forwardinf.embedders.artwork import FOLDER, WEIGHTS, ArtworkEmbedder, Discriminants, load
from forwardinf.embedders.descriptors import describe
from forwardinf.embedders.registry import load_embedder
from forwardinf.errors import DamagedAsset, MissingAsset
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.decoding import to_square
from forwardinf.models.sd import StableDiffusion
from forwardinf.training.disguises import disguised
from forwardinf.training.embedder import discriminant_directions, fit_embedder

CATALOG = Catalog.load(ASSETS / "emoji")
N = describe(np.zeros((1, 64, 64, 3), np.uint8)).shape[1]
TRAINED = CATALOG.of_split("train").images


@pytest.fixture(scope="module")
def embedder() -> ArtworkEmbedder:
    return load()


def small_artwork(folder: Path, count: int = 6) -> Path:
    """A catalog of as many training images of two artists, and one held out, whose picture is missing."""
    chosen = [image for image in TRAINED if image.collection in ("noto", "twemoji")][:: len(TRAINED) // (2 * count)]
    for image in chosen:
        (folder / image.file_name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CATALOG.path_of(image), folder / image.file_name)
    rows = (*chosen, replace(CATALOG.of_split("held_out").images[0], file_name="missing.webp"))
    Catalog(folder, tuple(sorted(rows, key=lambda image: image.id))).save()
    return folder


def test_the_shipped_embedder_gives_unit_vectors_whatever_the_batch(embedder: ArtworkEmbedder):
    found = embedder.embed(pictures())
    assert (found.shape, found.dtype) == ((5, 256), torch.float32)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(torch.cat([embedder.embed([picture]) for picture in pictures()]), found)
    assert torch.equal(embedder.embed(pictures()), found)


def test_a_picture_and_its_mirror_image_are_the_same_to_it(embedder: ArtworkEmbedder):
    squares = [picture.resize((64, 64)) for picture in pictures()]
    seen, mirrored = embedder.embed(squares), embedder.embed([ImageOps.mirror(square) for square in squares])
    torch.testing.assert_close(mirrored, seen)
    assert not torch.allclose(embedder.embed([ImageOps.flip(square) for square in squares]), seen, atol=0.01)


def made(folder: Path, **changed: object) -> Path:
    """Random directions."""
    random = np.random.default_rng(0)
    parts = {"mean": np.zeros(N), "likeness": random.standard_normal((N, 4)), "meaning": random.standard_normal((N, 3))}
    return Discriminants(**{**parts, **changed}).save(folder)


def test_it_is_found_by_name_and_named_by_its_files(tiny_model: StableDiffusion, tmp_path: Path):
    found = load_embedder("artwork", tiny_model)
    assert (found.name, found.fingerprint) == ("artwork", load().fingerprint)
    folders = [made(tmp_path / "one"), made(tmp_path / "same"), made(tmp_path / "two", mean=np.ones(N))]
    one, same, two = (load(folder=folder).fingerprint for folder in folders)
    assert one == same != two


def test_one_that_is_missing_or_damaged_is_refused(tmp_path: Path):
    with pytest.raises(MissingAsset, match="“none”"):
        load(folder=tmp_path / "none")
    damaged = shutil.copytree(FOLDER, tmp_path / "damaged")
    content = bytearray((damaged / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (damaged / WEIGHTS).write_bytes(content)
    with pytest.raises(DamagedAsset, match=r"embedder\.safetensors” differs"):
        load(folder=damaged)


def test_disguises_are_others_for_each_copy_and_the_same_for_a_seed():
    picture = CATALOG.picture(TRAINED[0]).resize((64, 64))

    def copies(seed: int) -> list[bytes]:
        random = np.random.default_rng(seed)
        return [disguised(picture, random).tobytes() for _ in range(20)]

    assert copies(1) == copies(1) != copies(2)
    assert len({*copies(1), picture.tobytes()}) == 21


def test_discriminants_ignore_what_varies_within_classes():
    within, between = np.diag([9.0, 0.1, 1.0]), np.diag([9.0, 1.0, 1.0])
    first, *_ = np.abs(discriminant_directions(within, between, 2)).T
    assert first.argmax() == 1
    assert first[0] < 0.01 * first[1]


def test_fitting_sees_training_images_only_and_gives_the_same_bytes(tmp_path: Path):
    artwork = small_artwork(tmp_path / "artwork")
    one, same, other = (fit_embedder(artwork, tmp_path / str(n), 2, seed) for n, seed in enumerate((0, 0, 1)))
    assert (one / WEIGHTS).read_bytes() == (same / WEIGHTS).read_bytes() != (other / WEIGHTS).read_bytes()
    fitted = load(folder=one)
    trained = Catalog.load(artwork).of_split("train")
    squares = [trained.picture(image) for image in trained.images]
    alike = (
        fitted.embed([ImageOps.mirror(square).rotate(8, fillcolor="white") for square in squares])
        @ fitted.embed(squares).T
    )
    assert alike.argmax(dim=1).tolist() == list(range(len(squares)))


def test_copies_in_disguise_are_nearest_to_their_originals(embedder: ArtworkEmbedder):
    squares = [to_square(CATALOG.picture(image), 64) for image in TRAINED[::15]]
    seen, chosen = embedder.embed(squares), range(0, len(squares), 8)
    for disguise in (
        lambda square: ImageOps.mirror(square).rotate(12, Image.Resampling.BICUBIC, fillcolor="white"),
        lambda square: ImageOps.expand(square.convert("L").convert("RGB"), 6, "black"),
        lambda square: Image.merge("RGB", [square.split()[i] for i in (1, 2, 0)]),
    ):
        found = (embedder.embed([disguise(squares[n]) for n in chosen]) @ seen.T).argmax(dim=1).tolist()
        assert sum(one == n for one, n in zip(found, chosen, strict=True)) >= 0.9 * len(chosen)
