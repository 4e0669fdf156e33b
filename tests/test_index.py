"""An index is built by one pass, knows what it was made of, and what is read of it is what was verified."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.errors import (
    DamagedAsset,
    ForwardInfError,
    IndexMismatch,
    InvalidRequest,
    MissingAsset,
    NonFinite,
    StopRequested,
    UnreadablePicture,
)
from forwardinf.examples import catalog as catalogs
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.metadata import training_images
from forwardinf.files.atomic import alone_in
from forwardinf.files.manifest import Manifest
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.info import INFO
from forwardinf.index.shards import shard_name
from forwardinf.index.store import Index
from forwardinf.models.sd import StableDiffusion
from forwardinf.sweep import tasks
from forwardinf.types import Draws, LatentBatch, ModelSpec

COUNT = 6
PLAN = BuildPlan(draws=2, fisher_images=3, fisher_draws=1, shard_size=4)
PACK = "thumbnails/00000.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"), COUNT)


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="attention"))


@pytest.fixture(scope="module")
def whole(folder: Path, model: StableDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Index:
    return build_index(model, training_images(folder), tmp_path_factory.mktemp("index") / "patches", PLAN)


@pytest.fixture
def copy(whole: Index, tmp_path: Path) -> Path:
    return shutil.copytree(whole.folder, tmp_path / "copy")


class Counted:
    """How many pictures were decoded and encoded."""

    def __init__(self, model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded = self.encoded = 0
        decode, encode = catalogs.decode_training_picture, model.encode_image

        def decoding(data: bytes, name: str) -> Image.Image:
            self.decoded += 1
            return decode(data, name)

        def encoding(pictures: list[Image.Image]) -> torch.Tensor:
            self.encoded += len(pictures)
            return encode(pictures)

        monkeypatch.setattr(catalogs, "decode_training_picture", decoding)
        monkeypatch.setattr(model, "encode_image", encoding)


@pytest.fixture
def counted(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(model, monkeypatch)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def times(folder: Path) -> dict[str, int]:
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def rewritten(before: dict[str, int], folder: Path) -> set[str]:
    return {name for name, time in times(folder).items() if before.get(name) != time}


# One pass


@pytest.mark.parametrize("embedder", ["unet", "vae"])
def test_each_picture_is_decoded_once_and_encoded_once(
    folder: Path, model: StableDiffusion, counted: Counted, tmp_path: Path, embedder: str
):
    build_index(model, training_images(folder), tmp_path / "index", replace(PLAN, embedder=embedder))
    assert (counted.decoded, counted.encoded) == (COUNT, COUNT)


def test_nothing_is_left_of_the_making(whole: Index):
    names = set(times(whole.folder))
    assert names == {*whole.manifest.files, "manifest.json"}
    assert whole.catalog.sources == whole.info.sources


# Going on


def test_a_finished_index_is_left_as_it_is(folder: Path, model: StableDiffusion, counted: Counted, copy: Path):
    before = times(copy)
    again = build_index(model, training_images(folder), copy, PLAN)
    assert not rewritten(before, copy)
    assert (counted.decoded, counted.encoded) == (0, 0)
    assert again.fingerprint == Index.open(copy).fingerprint


@pytest.mark.parametrize(
    ("name", "decoded", "encoded"),
    [
        (shard_name(0), 4, 4),
        (shard_name(1), 2, 2),
        (PACK, 4, 0),
        ("neighbours.faiss", 6, 6),
        ("fisher.safetensors", 0, 0),
        ("catalog.parquet", 0, 0),
        (INFO, 0, 0),
    ],
)
@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_building_over_a_damaged_index_makes_anew_what_is_damaged_and_only_that(
    folder: Path, model: StableDiffusion, counted: Counted, whole: Index, copy: Path, name: str, decoded: int,
    encoded: int, damage: Callable[[Path], None],
):  # fmt: skip
    damage(copy / name)
    with pytest.raises((DamagedAsset, MissingAsset)):
        Index.open(copy)
    before = times(copy)
    mended = build_index(model, training_images(folder), copy, PLAN)
    assert (counted.decoded, counted.encoded) == (decoded, encoded)
    assert mended.fingerprint == whole.fingerprint
    made = {other for other in rewritten(before, copy) if not other.startswith("thumbnails/")}
    shards = {other for other in made if other.startswith("shards/")}
    assert name in rewritten(before, copy)
    assert made - shards <= {name}
    assert (copy / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_lost_manifest_is_not_written_over_files_that_nothing_vouches_for(
    folder: Path, model: StableDiffusion, counted: Counted, whole: Index, copy: Path
):
    (copy / "manifest.json").unlink()
    flip(copy / shard_name(0))
    mended = build_index(model, training_images(folder), copy, PLAN)
    assert mended.fingerprint == whole.fingerprint
    assert counted.encoded == COUNT


def test_a_build_that_was_cut_off_goes_on_but_trusts_no_damaged_shard(
    folder: Path, model: StableDiffusion, counted: Counted, whole: Index, tmp_path: Path
):
    def stop(stage: str, done: int, total: int) -> None:
        if done == PLAN.shard_size:
            raise KeyboardInterrupt

    for damaged in (False, True):
        out = tmp_path / f"cut-{damaged}"
        with pytest.raises(KeyboardInterrupt):
            build_index(model, training_images(folder), out, PLAN, stop)
        with pytest.raises(MissingAsset, match=r"manifest\.json"):
            Index.open(out)
        if damaged:
            flip(out / shard_name(0))
        counted.encoded = 0
        assert build_index(model, training_images(folder), out, PLAN).fingerprint == whole.fingerprint
        assert counted.encoded == (COUNT if damaged else COUNT - PLAN.shard_size)


def test_a_torn_line_of_the_journal_counts_as_absent(
    folder: Path, model: StableDiffusion, whole: Index, tmp_path: Path
):
    def stop(stage: str, done: int, total: int) -> None:
        if done == PLAN.shard_size:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(model, training_images(folder), tmp_path / "cut", PLAN, stop)
    journal = tmp_path / "cut" / "building" / "whole.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9] + b"\n[1]\n")
    assert build_index(model, training_images(folder), tmp_path / "cut", PLAN).fingerprint == whole.fingerprint


# Other sets


def other_set(folder: Path, tmp_path: Path, change: Callable[[Path, list[dict]], None]) -> Catalog:
    """The patches, changed; in a folder of the same name, so that only the change differs."""
    copied = shutil.copytree(folder, tmp_path / "other" / folder.name)
    rows = [json.loads(line) for line in (copied / "metadata.jsonl").read_text().splitlines()]
    change(copied, rows)
    (copied / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return training_images(copied)


def paint(folder: Path, name: str) -> None:
    Image.new("RGB", (32, 32), "red").save(folder / name)


def rename(folder: Path, rows: list[dict]) -> None:
    (folder / "05.png").rename(folder / "06.png")
    rows[5]["file_name"] = "06.png"


CHANGES: dict[str, Callable[[Path, list[dict]], object]] = {
    "“03.png” has another picture": lambda folder, rows: paint(folder, "03.png"),
    "“02.png” has another caption": lambda folder, rows: rows[2].update(text="another patch"),
    "“02.png” has another creator": lambda folder, rows: rows[2].update(creator="Grace"),
    "“02.png” has another licence": lambda folder, rows: rows[2].update(licence="MIT"),
    "“02.png” has another source_url": lambda folder, rows: rows[2].update(url="https://example.org"),
    "“04.png” has another split": lambda folder, rows: rows[4].update(split="held_out"),
    "“06.png” stands where “05.png” was": rename,
    "there are 5 images, where there were 6": lambda folder, rows: rows.pop(),
}


@pytest.mark.parametrize("named", CHANGES)
def test_an_index_of_other_images_is_refused_naming_the_difference(
    folder: Path, model: StableDiffusion, copy: Path, tmp_path: Path, named: str
):
    before = times(copy)
    with pytest.raises(IndexMismatch, match=f"“copy” holds an index of other images: {named}"):
        build_index(model, other_set(folder, tmp_path, CHANGES[named]), copy, PLAN)
    assert not rewritten(before, copy)
    assert Index.open(copy)


def test_the_order_of_the_images_is_part_of_what_they_are(folder: Path):
    catalog = training_images(folder)
    assert replace(catalog, images=catalog.images[::-1]).sources != catalog.sources


def test_where_the_files_lie_is_not(folder: Path, whole: Index):
    assert training_images(folder).sources == whole.catalog.sources


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"draws": 3}, "the number of draws was 2 and is 3 now"),
        ({"seed": 1}, "the seed of draws was 0 and is 1 now"),
        ({"fisher_images": 4}, "the number of images for the Fisher was 3 and is 4 now"),
        ({"fisher_draws": 2}, "the number of draws for the Fisher was 1 and is 2 now"),
        ({"embedder": "vae"}, "the embedder was unet and is vae now"),
        ({"shard_size": 3}, "the size of shards was 4 and is 3 now"),
    ],
)
def test_an_index_made_otherwise_is_refused_naming_the_difference(
    folder: Path, model: StableDiffusion, copy: Path, change: dict, named: str
):
    with pytest.raises(IndexMismatch, match=named):
        build_index(model, training_images(folder), copy, replace(PLAN, **change))
    assert Index.open(copy)


def test_an_index_of_another_model_is_refused_naming_the_difference(folder: Path, copy: Path):
    other = StableDiffusion(tiny_pipeline(seed=1), ModelSpec("tiny", tunable="attention"))
    with pytest.raises(IndexMismatch, match=r"the model was .* and is .* now"):
        build_index(other, training_images(folder), copy, PLAN)
    moved = StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="all"))
    with pytest.raises(IndexMismatch, match="the choice of weights was attention and is all now"):
        build_index(moved, training_images(folder), copy, PLAN)


def test_a_folder_that_holds_something_else_is_left_alone(folder: Path, model: StableDiffusion, copy: Path):
    with pytest.raises(InvalidRequest, match="is not empty and holds no index"):
        build_index(model, training_images(folder), folder, PLAN)
    (copy / INFO).write_text("{")
    (copy / "manifest.json").unlink()
    with pytest.raises(DamagedAsset, match=r"holds an index whose index\.json is damaged\. Remove the folder"):
        build_index(model, training_images(folder), copy, PLAN)


def test_a_set_without_training_images_is_refused(folder: Path, model: StableDiffusion, tmp_path: Path):
    catalog = training_images(folder)
    for images in ((), tuple(replace(image, split="held_out") for image in catalog.images)):
        with pytest.raises(InvalidRequest, match="no image of the split train"):
            build_index(model, replace(catalog, images=images), tmp_path / "index", PLAN)
    assert not (tmp_path / "index").exists()


def test_a_picture_that_changed_since_it_was_catalogued_is_named(folder: Path, model: StableDiffusion, tmp_path: Path):
    copied = shutil.copytree(folder, tmp_path / "copy")
    catalog = training_images(copied)
    paint(copied, "03.png")
    with pytest.raises(DamagedAsset, match=r"“03\.png”"):
        build_index(model, catalog, tmp_path / "index", PLAN)
    content = (folder / "03.png").read_bytes()
    (copied / "03.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadablePicture, match=r"“03\.png”"):
        build_index(model, training_images(copied), tmp_path / "other", PLAN)


# Numbers that are no numbers


def poisoned(part: str) -> StableDiffusion:
    broken = StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="attention"))
    module = {"unet": broken.unet.conv_out, "vae": broken.vae.quant_conv}[part]
    with torch.no_grad():
        module.bias[0] = float("nan")
    return broken


@pytest.mark.parametrize(
    ("part", "embedder", "named"),
    [
        ("unet", "vae", "The loss of “00.png” at draw 0 gives nan"),
        ("vae", "unet", "Embedding “00.png” gives nan|Encoding “00.png” gives nan"),
    ],
)
def test_a_model_with_one_weight_that_is_no_number_gives_no_index(
    folder: Path, tmp_path: Path, part: str, embedder: str, named: str
):
    with pytest.raises(NonFinite, match=named):
        build_index(poisoned(part), training_images(folder), tmp_path / "index", replace(PLAN, embedder=embedder))
    assert not list((tmp_path / "index").glob("shards/*"))
    with pytest.raises(MissingAsset, match=r"manifest\.json"):
        Index.open(tmp_path / "index")


def test_the_image_and_the_draw_are_named(
    folder: Path, model: StableDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    measure = model.loss_and_size

    def failing_once(batch: object, draws: object) -> tuple[torch.Tensor, torch.Tensor]:
        losses, sizes = measure(batch, draws)
        losses = losses.clone()
        for row, example_id in enumerate(batch.example_ids):
            if example_id == "03.png":
                losses[row, 1] = float("inf")
        return losses, sizes

    monkeypatch.setattr(model, "loss_and_size", failing_once)
    with pytest.raises(NonFinite, match=r"The loss of “03\.png” at draw 1 gives inf"):
        build_index(model, training_images(folder), tmp_path / "index", PLAN)


def test_latents_that_half_precision_cannot_hold_are_refused(
    folder: Path, model: StableDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    encode = model.encode_image
    monkeypatch.setattr(model, "encode_image", lambda pictures: encode(pictures) + 1e5)
    with pytest.raises(NonFinite, match=r"Encoding “00\.png” gives inf"):
        build_index(model, training_images(folder), tmp_path / "index", PLAN)


# Files that are swapped while an index is open

READERS: dict[str, Callable[[Index], object]] = {
    shard_name(1): lambda index: list(index.shards()),
    f"{shard_name(1)}#losses": lambda index: index.base_losses,
    f"{shard_name(1)}#examples": lambda index: index.examples([index.catalog.images[-1].id]),
    "mean.safetensors": lambda index: index.mean_latents,
    "fisher.safetensors": lambda index: index.fisher(),
    "neighbours.faiss": lambda index: index.neighbours,
}


def replaced(path: Path) -> None:
    aside = path.with_name("aside")
    shutil.copy(path, aside)
    flip(aside)
    os.replace(aside, path)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("swap", [flip, replaced, Path.unlink])
def test_a_file_that_is_swapped_under_an_open_index_is_refused_by_name(
    copy: Path, reader: str, swap: Callable[[Path], None]
):
    name = reader.partition("#")[0]
    opened = Index.open(copy)
    swap(copy / name)
    with pytest.raises((DamagedAsset, MissingAsset), match=f"“copy/{name}”"):
        READERS[reader](opened)


def test_what_was_read_before_is_still_held(copy: Path, whole: Index):
    opened = Index.open(copy)
    neighbours, catalog = opened.neighbours, opened.catalog
    for name in ("neighbours.faiss", "catalog.parquet", INFO, "manifest.json"):
        flip(copy / name)
    assert opened.neighbours is neighbours
    assert (opened.catalog.images, opened.info) == (catalog.images, whole.info)
    assert opened.fingerprint == whole.fingerprint
    with pytest.raises(ForwardInfError):
        Index.open(copy)


def test_every_file_of_an_index_is_verified_when_it_is_opened(copy: Path):
    names = sorted(Manifest.read(copy).files)
    for name in names:
        content = (copy / name).read_bytes()
        flip(copy / name)
        with pytest.raises((DamagedAsset, IndexMismatch)):
            Index.open(copy)
        (copy / name).write_bytes(content)
    assert Index.open(copy)


def test_the_remedy_for_an_index_is_to_build_it_again(copy: Path):
    flip(copy / shard_name(0))
    with pytest.raises(DamagedAsset, match="Run `index build` again") as refused:
        Index.open(copy)
    assert "git" not in str(refused.value)


# Metadata


def test_a_picture_is_measured_by_its_header_upright(tmp_path: Path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=turned)
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "b.webp")
    rows = [{"file_name": "a.jpg", "text": "a"}, {"file_name": "b.webp", "text": "b"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    catalog = training_images(tmp_path)
    assert [(image.width, image.height) for image in catalog.images] == [(10, 20), (40, 30)]
    assert catalog.picture(catalog.images[0]).size == (10, 20)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a"])
def test_a_header_that_ends_early_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a"}')
    with pytest.raises(InvalidRequest, match=r"line 1: “a\.png” has a header that cannot be read"):
        training_images(tmp_path)


def test_two_lines_for_one_file_and_text_that_is_no_utf8_are_refused(folder: Path, tmp_path: Path):
    shutil.copy(folder / "00.png", tmp_path)
    line = '{"file_name": "00.png", "text": "a"}'
    (tmp_path / "metadata.jsonl").write_text(f"{line}\n{line}\n")
    with pytest.raises(InvalidRequest, match=r"line 2 names “00\.png”, as line 1 does"):
        training_images(tmp_path)
    (tmp_path / "metadata.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        training_images(tmp_path)


def test_a_folder_that_another_process_builds_in_is_refused(copy: Path, folder: Path, model: StableDiffusion):
    before = Index.open(copy).fingerprint
    with alone_in(copy), pytest.raises(InvalidRequest, match="Another process is writing to “copy”"):
        build_index(model, training_images(folder), copy, PLAN)
    assert build_index(model, training_images(folder), copy, PLAN).fingerprint == before


def test_an_index_of_a_later_version_is_refused_as_that(copy: Path):
    fields = json.loads((copy / INFO).read_bytes()) | {"version": "9.9", "wavelets": 3}
    (copy / INFO).write_text(json.dumps(fields))
    with pytest.raises(IndexMismatch, match=r"built by version 9\.9, which knows of wavelets; this is"):
        Index.open(copy)


def test_captions_of_many_kilobytes_are_indexed_as_far_as_the_model_reads(model: StableDiffusion, tmp_path: Path):
    pictures = write_patches(tmp_path, 2)
    rows = [{"file_name": f"{n:02}.png", "text": text * 1500} for n, text in enumerate(("patch, ", "\U0001f34e赤"))]
    (pictures / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    index = build_index(model, training_images(pictures), tmp_path / "index", PLAN)
    assert [len(image.caption) for image in index.catalog.images] == [10500, 3000]
    assert Attributor(model, index).query(Image.new("RGB", (16, 16))).fallback_caption in {r["text"] for r in rows}


def test_a_build_that_was_cut_off_within_a_shard_measures_nothing_twice(
    folder: Path, model: StableDiffusion, whole: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    measured, real = list[str](), StableDiffusion.loss_and_size
    monkeypatch.setattr(tasks, "CPU_POSITIONS", 128)  # an image at a time

    def stopping(self: StableDiffusion, batch: LatentBatch, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        if len(measured) == 2:
            raise StopRequested("enough")
        measured.extend(batch.example_ids)
        return real(self, batch, draws)

    def counting(self: StableDiffusion, batch: LatentBatch, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        measured.extend(batch.example_ids * (draws.u.shape[1] > 1))  # those of the Fisher are one by one
        return real(self, batch, draws)

    monkeypatch.setattr(StableDiffusion, "loss_and_size", stopping)
    with pytest.raises(StopRequested):
        build_index(model, training_images(folder), tmp_path / "index", PLAN)
    assert len(measured) == 2
    monkeypatch.setattr(StableDiffusion, "loss_and_size", counting)
    index = build_index(model, training_images(folder), tmp_path / "index", PLAN)
    assert sorted(measured) == [image.id for image in index.catalog.images]
    torch.testing.assert_close(index.base_losses, whole.base_losses)
    assert not (index.folder / "building").exists()
