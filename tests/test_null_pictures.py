"""The pictures that a null is measured with: held out, drawn with the adapter left out, or of one's own folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_adapters import lora
from typer.testing import CliRunner

from conftest import Counted, tiny_pipeline, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.build_null import DRAWN, HELD_OUT, HeldOut, chosen_null, measure_null
from forwardinf.attribution.null_pictures import Drawn, OfFolder
from forwardinf.cli.main import app
from forwardinf.errors import InvalidRequest, MissingAsset
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models.generation import GenerationRequest
from forwardinf.models.sd import StableDiffusion
from forwardinf.types import Adapter, ModelSpec

METHOD = ForwardInf(loss_budget=0.01)  # an untrained model's loss cannot be moved by much


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"), 6)


@pytest.fixture(scope="module")
def source(pictures: Path) -> Catalog:
    return training_images(pictures)


@pytest.fixture(scope="module")
def adapted(source: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    """The tiny model with a LoRA, and its index of six pictures, none of which is held out."""
    folder = tmp_path_factory.mktemp("adapted")
    adapter = Adapter(str(lora(folder / "style.safetensors")))
    model = StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="adapter", adapter=adapter))
    plan = BuildPlan(draws=3, fisher_images=2, fisher_draws=1)
    return Attributor(model, build_index(model, source, folder / "index", plan))


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))


def test_the_base_draws_from_the_sets_captions(adapted: Attributor, source: Catalog, base: StableDiffusion):
    drawn = Drawn.of(adapted.model, source, 8)
    shown = [drawn.picture(query_id) for query_id in list(drawn.ids)[:2]]
    captions = {image.caption for image in source.images}
    assert {caption for _, caption in shown} <= captions
    assert len({request.prompt for request in drawn._requests.values()}) == len(captions)
    request = GenerationRequest(shown[1][1], 1)
    assert shown[1][0].tobytes() == base.generate(request).tobytes() != adapted.model.generate(request).tobytes()


def test_ids_of_drawn_pictures_say_what_was_drawn(adapted: Attributor, source: Catalog):
    others = replace(source, images=tuple(replace(image, caption=f"{image.caption}!") for image in source.images))
    found = [tuple(Drawn.of(adapted.model, *given).ids) for given in ((source, 3), (source, 3, 1), (others, 3))]
    assert len(set(found)) == 3
    assert tuple(Drawn.of(adapted.model, source, 4).ids)[:3] == found[0]


def test_without_an_adapter_or_captions_nothing_is_drawn(adapted: Attributor, source: Catalog, base: StableDiffusion):
    with pytest.raises(InvalidRequest, match="only by the base of a model with an adapter"):
        Drawn.of(base, source, 3)
    bare = replace(source, images=tuple(replace(image, caption=" ") for image in source.images))
    with pytest.raises(InvalidRequest, match="no captions"):
        Drawn.of(adapted.model, bare, 3)


def test_a_folder_of_pictures_is_read_with_its_captions_or_without(pictures: Path, tmp_path: Path):
    captioned = OfFolder.read(pictures, 99)
    assert sorted(captioned.picture(query_id)[1] for query_id in captioned.ids) == [f"patch {n}" for n in range(6)]
    for name in ("00.png", "01.png"):
        shutil.copy(pictures / name, tmp_path / name)
        shutil.copy(pictures / name, tmp_path / f"again-{name}")
    bare = OfFolder.read(tmp_path, 99)
    assert [bare.picture(query_id)[1] for query_id in bare.ids] == ["", ""]
    assert [one.split("-")[-1] for one in bare.ids] == sorted(
        one.split("-")[-1] for one in captioned.ids if captioned.picture(one)[1] in ("patch 0", "patch 1")
    )
    assert len(OfFolder.read(pictures, 2).ids) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="“empty” has no picture"):
        OfFolder.read(tmp_path / "empty", 3)
    with pytest.raises(MissingAsset, match="no folder “nowhere”"):
        OfFolder.read(tmp_path / "nowhere", 3)


def test_which_pictures_are_taken(adapted: Attributor, source: Catalog, sharded: Attributor, pictures: Path):
    assert isinstance(chosen_null(adapted, source, "", 3), Drawn)
    assert isinstance(chosen_null(adapted, source, DRAWN, 3), Drawn)
    assert isinstance(chosen_null(adapted, source, str(pictures), 3), OfFolder)
    with pytest.raises(InvalidRequest, match="no image of the split held_out"):
        chosen_null(adapted, source, HELD_OUT, 3)
    assert isinstance(chosen_null(sharded, source, "", 3), HeldOut)
    bare = replace(source, images=tuple(replace(image, caption="") for image in source.images))
    assert chosen_null(adapted, bare, "", 3) is None


def test_a_null_of_drawn_pictures_is_measured_once(adapted: Attributor, source: Catalog, counted: Counted):
    drawn = Drawn.of(adapted.model, source, 3)
    index = measure_null(adapted, METHOD, drawn)
    null = index.null_changes
    assert null is not None
    assert (null.queries, len(null.unprompted)) == (tuple(drawn.ids), 3)
    assert (null.per_draw.abs().sum(dim=2) > 0).all()  # every image was swept, as none is the picture itself
    paid = counted.latents
    assert measure_null(replace(adapted, index=index), METHOD, drawn).null_changes is not None
    assert counted.latents == paid
    scores = replace(adapted, index=index).attribute(source.picture(source.images[3]), "patch 3", METHOD)
    assert scores.rank_of(source.images[3].id) == 1


def test_the_command_line_takes_a_folder(pictures: Path, tiny_checkpoint: Path, tmp_path: Path):
    words = ["--draws", "2", "--no-sketch", "--null", str(pictures), "--null-pictures", "2"]
    out = str(tmp_path / "index")
    done = CliRunner().invoke(
        app, ["index", "build", str(pictures), "--out", out, "--model", str(tiny_checkpoint), *words]
    )
    assert "6 images by crop, 2 draws each, 2 null pictures" in done.stdout, done
