"""More images for an index, without measuring those again that it has."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_adapters import lora
from typer.testing import CliRunner

from conftest import write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.build_sketch import build_sketch
from forwardinf.cli.main import app
from forwardinf.embedders.registry import load_embedder
from forwardinf.errors import IndexMismatch, InvalidRequest, StopRequested
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.metadata import training_images
from forwardinf.index.about_file import read_about
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.grow import Grown, grow, open_to_grow
from forwardinf.index.missing import missing_from
from forwardinf.index.store import Index
from forwardinf.index.thumbnails import pack_name
from forwardinf.methods.registry import load_method
from forwardinf.models.protocol import PictureModel
from forwardinf.models.registry import load_model
from forwardinf.types import Adapter, ModelSpec

PLAN = BuildPlan(draws=3, fisher_images=3, fisher_draws=1, shard_size=3)


def quiet(stage: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Ten patches, of which the first two are held out."""
    source = training_images(write_patches(tmp_path_factory.mktemp("patches"), 10))
    images = tuple(replace(image, split="held_out" if n < 2 else "train") for n, image in enumerate(source.images))
    return replace(source, images=images)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> PictureModel:
    adapter = Adapter(str(lora(tmp_path_factory.mktemp("lora") / "style.safetensors")))
    return load_model(ModelSpec(str(tiny_checkpoint), tunable="adapter", adapter=adapter))


@pytest.fixture(scope="module")
def kept(model: PictureModel, pictures: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An index of the first seven, with sketches."""
    few = replace(pictures, images=pictures.images[:7])
    return build_sketch(model, build_index(model, few, tmp_path_factory.mktemp("kept") / "index", PLAN), 64)


@pytest.fixture
def small(kept: Index, tmp_path: Path) -> Index:
    shutil.copytree(kept.folder, tmp_path / "index")
    return Index.open(tmp_path / "index")


def grown(model: PictureModel, index: Index, pictures: Catalog) -> Grown:
    return grow(model, index, pictures, load_embedder(index.info.embedder, model), quiet)


def test_images_are_added_and_those_there_stay_as_they_are(
    model: PictureModel, small: Index, pictures: Catalog, monkeypatch: pytest.MonkeyPatch
):
    encoded, losses = [], []
    encode, loss = type(model).encode, type(model).loss_and_size
    monkeypatch.setattr(type(model), "encode", lambda self, e: encoded.extend(one.id for one in e) or encode(self, e))
    monkeypatch.setattr(
        type(model), "loss_and_size", lambda self, b, d: losses.extend(b.example_ids) or loss(self, b, d)
    )
    made = grown(model, small, pictures)
    made = replace(made, index=build_sketch(model, made.index, 64, known=small.sketches))
    more = {image.id for image in pictures.images[7:]}
    assert set(encoded) == set(losses) == more
    was = {
        name: digest for name, digest in small.manifest.files.items() if name.startswith(("shards", "thumb", "fish"))
    }
    index = made.put_in_place()
    assert was.items() <= index.manifest.files.items()
    assert not list(index.folder.parent.glob("index.*"))
    assert torch.equal(index.base_losses[:7], small.base_losses)
    rows = torch.arange(7)
    assert (
        index.sketches.kept.reconstruct_batch(rows.numpy()) == small.sketches.kept.reconstruct_batch(rows.numpy())
    ).all()
    assert index.sketches.kept.ntotal == 10
    assert (index.info.fisher_among, index.info.shards) == (7, (3, 3, 1, 3))
    index.manifest.verify()


def test_a_grown_index_measures_what_a_built_one_does(
    model: PictureModel, small: Index, pictures: Catalog, tmp_path: Path
):
    index = grown(model, small, pictures).put_in_place()
    whole = build_index(model, pictures, tmp_path / "whole", PLAN)
    assert [image.id for image in index.catalog.images] == [image.id for image in whole.catalog.images]
    torch.testing.assert_close(index.base_losses, whole.base_losses)
    torch.testing.assert_close(index.unadapted_losses, whole.unadapted_losses)
    torch.testing.assert_close(index.mean_latents, whole.mean_latents)
    picture, method = pictures.picture(pictures.images[8]), load_method("forward_inf", curvature="none")
    scores, others = (Attributor(model, one).attribute(picture, "patch 8", method) for one in (index, whole))
    torch.testing.assert_close(scores.scores, others.scores, rtol=1e-3, atol=1e-3)
    shown = index.thumbnails
    assert [shown.picture(image).size for image in shown.images] == [(32, 32)] * 10
    again = training_images(pictures.folder)
    with pytest.raises(InvalidRequest, match="with another split"):
        grown(model, index, again)


def test_an_addition_that_was_cut_off_goes_on_and_the_index_stays_usable(
    model: PictureModel, small: Index, pictures: Catalog, monkeypatch: pytest.MonkeyPatch
):
    def stop(stage: str, done: int, total: int) -> None:
        if done == 9:
            raise StopRequested("enough")

    short = replace(small, info=replace(small.info, shard_size=1, shards=(3, 3, 1)))
    with pytest.raises(StopRequested):
        grow(model, short, pictures, load_embedder("unet", model), stop)
    assert Index.open(small.folder).info.examples == 7
    encoded: list[str] = []
    encode = type(model).encode
    monkeypatch.setattr(type(model), "encode", lambda self, e: encoded.extend(one.id for one in e) or encode(self, e))
    grown(model, short, pictures)
    assert encoded == [pictures.images[9].id]


def test_a_swap_that_was_cut_off_is_undone(small: Index):
    small.folder.rename(small.folder.with_name("index.before"))
    assert open_to_grow(small.folder).info.examples == 7
    assert not small.folder.with_name("index.before").exists()


def test_what_cannot_be_added_is_refused(model: PictureModel, small: Index, pictures: Catalog):
    with pytest.raises(InvalidRequest, match="has all 7 images"):
        grown(model, small, replace(pictures, images=pictures.images[:7]))
    other = replace(pictures.images[3], sha256="0" * 64)
    with pytest.raises(InvalidRequest, match=r"“03\.png” is in “index” already, with another picture"):
        grown(model, small, replace(pictures, images=(other,)))
    many = tuple(replace(pictures.images[7], id=f"more/{n}.png") for n in range(6))
    with pytest.raises(IndexMismatch, match="would have 11 training images, but its curvature was sampled from 5"):
        grown(model, small, replace(pictures, images=many))
    with pytest.raises(IndexMismatch, match=r"built by version 0\.0\.1"):
        grown(model, replace(small, info=replace(small.info, version="0.0.1")), pictures)
    assert not small.folder.with_name("index.adding").exists()


def test_what_an_index_lacks_is_told(small: Index, pictures: Catalog):
    rest = (replace(pictures.images[1], caption="another"), replace(pictures.images[2], sha256="0" * 64))
    few = replace(pictures, images=(*rest, *pictures.images[3:8]))
    images, null, sketches = missing_from(small, few)
    assert images.verdict == "differs"
    assert images.told == (
        "1 not in the index (“07.png”); 1 not in the folder (“00.png”); 1 with another picture (“02.png”); "
        "1 with another caption (“01.png”): `index add` takes them"
    )
    assert (null.verdict, sketches.verdict) == ("missing", "agrees")
    assert missing_from(small, replace(pictures, images=pictures.images[:7]))[0].verdict == "agrees"


def test_the_command_line_adds_and_measures_the_null_anew(tiny_checkpoint: Path, tmp_path: Path):
    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["index", *words, "--model", str(tiny_checkpoint), "--null-pictures", "1"])
        if done.exception:
            raise done.exception
        return done.stdout

    (tmp_path / "set").mkdir()
    folder = write_patches(tmp_path / "set", 6)
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    held_out = [json.dumps(json.loads(line) | {"split": "held_out"}) for line in lines[:2]]
    (folder / "metadata.jsonl").write_text("\n".join(held_out + lines[2:5]))
    run("build", str(folder), "--out", str(tmp_path / "index"), "--draws", "2")
    null = Index.open(tmp_path / "index").null_changes
    (folder / "metadata.jsonl").write_text("\n".join(held_out + lines[2:]))
    alone = tmp_path / "more"
    alone.mkdir()
    shutil.copy(folder / "05.png", alone / "05.png")
    (alone / "metadata.jsonl").write_text(lines[5])
    checked = CliRunner().invoke(app, ["index", "check", str(folder), "--index", str(tmp_path / "index")])
    assert checked.stdout.splitlines()[0] == (
        "images     differs    1 not in the index (“05.png”): `index add` takes them"
    )
    assert "null       agrees     1 null pictures" in checked.stdout
    with pytest.raises(InvalidRequest, match="such as “0"):
        run("add", str(alone), str(tmp_path / "index"))
    assert Index.open(tmp_path / "index").info.examples == 5
    told = run("add", str(folder), str(tmp_path / "index"))
    assert "1 images added; 6 images by crop" in told
    index = Index.open(tmp_path / "index")
    assert index.null_changes.found.shape[1] == 6
    assert null.found.shape[1] == 5
    assert index.sketches.kept.ntotal == 6
    assert pack_name(1) in index.manifest.files
    assert "1 images added from set, by metadata.jsonl" in read_about(index.manifest).notes
