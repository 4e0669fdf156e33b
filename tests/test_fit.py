"""Pictures are made a model's shape as its trainer made them, a query as the training images were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from test_adapters import lora
from typer.testing import CliRunner

from conftest import table
from forwardinf.attribution.attributor import DEFAULT_METHOD, Attributor
from forwardinf.attribution.build_null import build_null
from forwardinf.attribution.build_sketch import build_sketch
from forwardinf.attribution.training_set import IndexShards
from forwardinf.cli.main import app
from forwardinf.config import ASSETS, usual_fit
from forwardinf.errors import IndexMismatch, InvalidSettings
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.fit import Fit, cropped
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.info import INFO, read_info
from forwardinf.index.store import Index
from forwardinf.methods.registry import load_method
from forwardinf.models.protocol import CaptionedPicture
from forwardinf.models.registry import load_model
from forwardinf.sweep.job import IndexRef, SweepJob
from forwardinf.sweep.tasks import tasks_of
from forwardinf.types import LatentBatch, ModelSpec

SIZES = [(48, 16), (32, 32), (16, 48), (48, 17), (32, 32), (16, 16), (40, 20), (33, 32)]
WAYS = [("crop", False), ("pad", False), ("crop", True), ("bucket", True)]
PLAN = BuildPlan(draws=3, fisher_images=2, fisher_draws=1, shard_size=3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Patches of several shapes, of which two are held out."""
    folder, random = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    lines = []
    for i, size in enumerate(SIZES):
        Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(size).save(folder / f"{i}.png")
        split = "held_out" if i in (3, 4) else "train"
        lines.append(json.dumps({"file_name": f"{i}.png", "text": f"patch {i}", "split": split}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return training_images(folder)


def indexed(checkpoint: Path, pictures: Catalog, out: Path, fit: str, flip: bool) -> Attributor:
    model = load_model(ModelSpec(str(checkpoint), fit=fit, flip=flip))
    return Attributor(model, build_index(model, pictures, out, PLAN))


@pytest.fixture(scope="module")
def made(
    tiny_checkpoint: Path, pictures: Catalog, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, bool], Attributor]:
    """An index for each of these ways."""
    folder = tmp_path_factory.mktemp("ways")
    return {way: indexed(tiny_checkpoint, pictures, folder / f"{n}", *way) for n, way in enumerate(WAYS)}


@pytest.fixture(scope="module")
def buckets(made: dict[tuple[str, bool], Attributor]) -> Attributor:
    return made["bucket", True]


def test_crop_keeps_the_middle_and_pad_the_whole():
    bands = Image.new("RGB", (96, 32), "red")
    bands.paste("blue", (32, 0, 64, 32))
    assert set(Fit("crop", 16, 4).of(bands).get_flattened_data()) == {(0, 0, 255)}
    padded = Fit("pad", 16, 4).of(bands)
    assert padded.getpixel((8, 0)) == (255, 255, 255)
    assert {padded.getpixel((0, 8)), padded.getpixel((8, 8))} == {(255, 0, 0), (0, 0, 255)}
    assert Fit("bucket", 16, 4).of(bands).size == (24, 8)
    assert cropped(Image.new("RGB", (1, 1000)), (16, 16)).size == (16, 16)
    with pytest.raises(InvalidSettings, match="“stretch”"):
        Fit("stretch", 16, 4)


def test_buckets_are_those_of_trainers_at_true_size():
    assert Fit("bucket", 512, 64).shape_of((1500, 1000)) == (640, 384)
    assert Fit("bucket", 1024, 32).shape_of((1500, 1000)) == (1216, 832)
    assert Fit("crop", 512, 64).shape_of((1500, 1000)) == (512, 512)


def test_others_models_are_cropped_for_and_the_shipped_one_padded(tiny_checkpoint: Path):
    assert load_model(ModelSpec(str(tiny_checkpoint))).spec.fit == "crop"
    assert usual_fit(ModelSpec(str(ASSETS / "emoji-diffusion"))) == "pad"
    shipped = read_info(ASSETS / "emoji-index")
    assert (shipped.fit, shipped.flip, shipped.shards) == ("pad", False, ())
    assert shipped.to_bytes() == (ASSETS / "emoji-index" / INFO).read_bytes()


@pytest.mark.parametrize(("fit", "flip"), WAYS)
def test_an_index_has_the_losses_of_pictures_as_prepared(
    made: dict[tuple[str, bool], Attributor], pictures: Catalog, fit: str, flip: bool
):
    index, model = made[fit, flip].index, made[fit, flip].model
    assert (index.info.fit, index.info.flip) == (fit, flip)
    assert {image.id for image in index.catalog.images} == {image.id for image in pictures.images}
    for number, image in enumerate(index.catalog.images):
        seen = model.encode([CaptionedPicture(image.id, pictures.picture(pictures.by_id[image.id]), image.caption)])
        latents, mirrored = seen.latents.half(), None if seen.mirrored is None else seen.mirrored.half()
        alone = replace(seen, latents=latents, mirrored=mirrored)
        loss = model.loss(alone, index.info.plan.draws([image.id], latents.shape[1:]))[0]
        torch.testing.assert_close(index.base_losses[number], loss, rtol=1e-4, atol=1e-5)


def test_a_flipped_loss_is_the_mean_of_a_picture_and_its_mirror(tiny_checkpoint: Path, pictures: Catalog):
    plain, both = (load_model(ModelSpec(str(tiny_checkpoint), flip=flip)) for flip in (False, True))
    picture = pictures.picture(pictures.images[1])

    def seen(model, shown: Image.Image) -> LatentBatch:
        return model.encode([CaptionedPicture("x", shown, "patch 1")])

    draws = PLAN_DRAWS.draws(["x"], (4, 8, 8))
    batch, turned = seen(both, picture), seen(plain, ImageOps.mirror(picture))
    one, other = plain.loss_and_size(seen(plain, picture), draws), plain.loss_and_size(turned, draws)
    for found, a, b in zip(both.loss_and_size(batch, draws), one, other, strict=True):
        torch.testing.assert_close(found, (a + b) / 2)
        assert not torch.allclose(a, b)
    maps = (plain.error_map(seen(plain, picture), draws) + plain.error_map(turned, draws).flip(-1)) / 2
    torch.testing.assert_close(both.error_map(batch, draws), maps)
    assert both.prediction(batch, draws).shape == (1, 3, 8, 8, 8)


PLAN_DRAWS = replace(read_info(ASSETS / "emoji-index").plan, count=3)


def test_what_decides_how_pictures_are_prepared_is_in_the_fingerprint(
    made: dict[tuple[str, bool], Attributor], tiny_checkpoint: Path, pictures: Catalog
):
    assert len({attributor.index.fingerprint for attributor in made.values()}) == len(WAYS)
    crop, padded, flipped = made["crop", False], made["pad", False].index, made["crop", True].index
    with pytest.raises(IndexMismatch, match="prepared by pad, but the model is shown them by crop"):
        Attributor(crop.model, padded)
    with pytest.raises(IndexMismatch, match="crop, and mirrored as well"):
        Attributor(crop.model, flipped)
    with pytest.raises(IndexMismatch, match="--fit"):
        build_index(crop.model, pictures, padded.folder, PLAN)
    loaded = Attributor.load(flipped, ModelSpec(str(tiny_checkpoint)))
    assert (loaded.model.spec.fit, loaded.model.spec.flip) == ("crop", True)


def test_a_shard_of_buckets_has_one_shape_and_every_image_its_own(buckets: Attributor, pictures: Catalog):
    index = buckets.index
    assert sum(index.info.shards) == len(SIZES)
    shapes = {}
    for ids, shape, shard in zip(index.shard_ids, index.latent_shapes, index.shards(), strict=True):
        assert tuple(shard.batch.latents.shape[1:]) == shape
        shapes |= dict.fromkeys(ids, shape[1:])
    assert shapes["0.png"] == (4, 12)
    assert shapes["2.png"] == (12, 4)
    assert shapes["1.png"] == shapes["5.png"] == (8, 8)
    shown = index.thumbnails
    for image in shown.images:
        assert shown.picture(image).size == pictures.picture(pictures.by_id[image.id]).size


def test_scores_of_buckets_do_not_depend_on_how_they_are_batched(buckets: Attributor, pictures: Catalog):
    query = buckets.query(pictures.picture(pictures.images[0]), "patch 0")
    state = buckets.prepare(query)
    alone, together = (DEFAULT_METHOD.changes(state, table(buckets, state, DEFAULT_METHOD, n)) for n in (1, None))
    assert set(alone.example_ids) == {image.id for image in pictures.images}
    torch.testing.assert_close(alone.per_draw, together.per_draw, rtol=1e-3, atol=1e-4)
    assert buckets.attribute(pictures.picture(pictures.images[0]), "patch 0").rank_of("0.png") == 1


def test_tasks_of_buckets_hold_as_many_positions(buckets: Attributor):
    state = buckets.prepare(buckets.query(Image.new("RGB", (16, 48)), "patch"))
    ref = IndexRef(str(buckets.index.folder), buckets.index.fingerprint)
    jobs = [SweepJob(buckets.model.spec, ref, DEFAULT_METHOD, state, r, buckets.index.info.plan) for r in state.rounds]
    tasks = list(tasks_of(jobs[-1], IndexShards(buckets.index)))
    assert [task.example_ids for task in tasks] == buckets.index.shard_ids


def test_sketches_and_a_null_are_made_of_buckets(buckets: Attributor, pictures: Catalog):
    index = build_null(buckets, DEFAULT_METHOD, pictures, 1)
    assert index.null_changes is not None
    assert build_sketch(buckets.model, index, dimensions=64).sketches is not None


def test_a_method_that_takes_images_together_refuses_buckets(buckets: Attributor):
    with pytest.raises(IndexMismatch, match="--fit crop"):
        buckets.attribute(Image.new("RGB", (16, 16)), "patch", load_method("mucs"))


def test_the_command_line_builds_as_it_is_told(tiny_checkpoint: Path, pictures: Catalog, tmp_path: Path):
    flipped = lora(tmp_path / "flipped.safetensors")
    save_file(load_file(flipped), flipped, {"ss_flip_aug": "True"})
    base = ["index", "build", str(pictures.folder), "--model", str(tiny_checkpoint), "--draws", "2"]
    base += ["--null-pictures", "0", "--no-sketch"]
    for name, options in {"a": ["--fit", "bucket"], "b": ["--lora", str(flipped)]}.items():
        done = CliRunner().invoke(app, [*base, "--out", str(tmp_path / name), *options])
        assert done.exit_code == 0, done.output
    assert read_info(tmp_path / "a").fit == "bucket"
    assert (read_info(tmp_path / "b").fit, read_info(tmp_path / "b").flip) == ("crop", True)
    assert "mirrored" in done.stderr
    assert "8 images by crop, and mirrored as well" in done.stdout
    refused = CliRunner().invoke(app, [*base, "--lora", str(flipped), "--no-flip", "--out", str(tmp_path / "b")])
    assert "--flip" in str(refused.exception)
    told = CliRunner().invoke(app, ["index", "info", str(tmp_path / "a")])
    assert json.loads(told.stdout)["fit"] == "bucket"
    assert Index.open(tmp_path / "a").info.shards == tuple(json.loads(told.stdout)["shards"])
