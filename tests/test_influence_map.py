"""Where influence sits: maps whose mean is the rise of the loss, found where a part of an image was copied."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from conftest import ASSETS, tiny_pipeline, write_patches
from forwardinf.attribution.attributor import DEFAULT_METHOD, Attributor
from forwardinf.attribution.influence_map import DRAWS, influence_maps
from forwardinf.draws import DrawPlan
from forwardinf.errors import InvalidRequest
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.store import Index
from forwardinf.methods.registry import load_method
from forwardinf.models.registry import load_model
from forwardinf.models.sd import StableDiffusion
from forwardinf.types import ModelSpec


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("mapped"), 4)


@pytest.fixture(scope="module")
def attributor(pictures: Path) -> Attributor:
    model = StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="attention"))
    return Attributor(model, build_index(model, training_images(pictures), pictures / "index", BuildPlan(2, 2, 1)))


def test_a_map_of_errors_has_the_loss_as_its_mean(attributor: Attributor):
    batch = attributor.index.examples(["00.png", "01.png"])
    draws = DrawPlan(3, 5).draws(batch.example_ids, batch.latents.shape[1:])
    errors = attributor.model.error_map(batch, draws)
    assert errors.shape == (2, 5, *batch.latents.shape[2:])
    torch.testing.assert_close(errors.mean(dim=(2, 3)), attributor.model.loss(batch, draws))


def test_the_means_of_the_maps_are_the_rises_of_the_losses(attributor: Attributor, pictures: Path):
    catalog = training_images(pictures)
    query = attributor.query(catalog.picture(catalog.images[1]), "patch 1")
    maps = influence_maps(attributor, query, "00.png", DEFAULT_METHOD)
    deltas = next(r.deltas for r in attributor.prepare(query).rounds if r.quantity == "loss")
    batch = attributor.index.examples(["00.png"])
    draws = DrawPlan(attributor.index.info.draw_seed + 1, DRAWS, shared=True).draws(
        ("00.png",), batch.latents.shape[1:]
    )
    with torch.no_grad():
        before = attributor.model.loss(batch, draws)
        with attributor.model.with_deltas(dict(deltas)):
            after = attributor.model.loss(batch, draws)
    torch.testing.assert_close(maps.of_image.mean(), (after - before).mean(), rtol=1e-4, atol=1e-6)
    assert maps.of_query.shape == maps.of_image.shape == batch.latents.shape[2:]


def test_what_has_no_place_is_refused(attributor: Attributor, pictures: Path):
    catalog = training_images(pictures)
    query = attributor.query(catalog.picture(catalog.images[1]), "patch 1")
    with pytest.raises(InvalidRequest, match="no image “none”"):
        influence_maps(attributor, query, "none", DEFAULT_METHOD)
    with pytest.raises(InvalidRequest, match="similarity moves no weights"):
        influence_maps(attributor, query, "00.png", load_method("similarity"))


def test_the_half_of_an_image_that_was_copied_is_found_in_the_query(small_index: Index):
    from PIL import Image

    model = load_model(ModelSpec(str(ASSETS / "emoji-diffusion")))
    image = next(i for i in small_index.catalog.images if i.caption == "flamingo, Fluent style")
    artwork = Catalog.load(ASSETS / "emoji")
    picture = artwork.picture(artwork.by_id[image.id]).convert("RGB")
    half = Image.new("RGB", picture.size, "white")
    half.paste(picture.crop((0, 0, picture.width // 2, picture.height)), (0, 0))
    attributor = Attributor(model, small_index)
    rise = influence_maps(attributor, attributor.query(half, image.caption), image.id, DEFAULT_METHOD).of_query.clamp(
        min=0
    )
    assert rise[:, : rise.shape[1] // 2].sum() > 0.6 * rise.sum()
