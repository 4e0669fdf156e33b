"""The main job on a tiny model: index, mirror, sweep, score."""

from __future__ import annotations

import gc
import io
import json
import math
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from conftest import ASSETS, measured, table, tiny_pipeline, write_patches
from forwardinf.attribution.answer import answer_of
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.shortlist import Effort
from forwardinf.draws import DrawPlan
from forwardinf.errors import DamagedAsset, IndexMismatch, InvalidRequest, MissingAsset, OutOfMemory
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.decoding import read_picture, to_square
from forwardinf.examples.metadata import training_images
from forwardinf.files.manifest import Manifest, sha256_of
from forwardinf.gradients.curvature import WeightCurvature, diagonal_fisher, kronecker_fisher, preconditioned
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.curvature_file import FISHER, KRONECKER, read_fisher, weights_of, write_fisher, write_kronecker
from forwardinf.index.shards import shard_name
from forwardinf.index.store import Index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.methods.protocol import settings_of
from forwardinf.methods.registry import load_method
from forwardinf.models.registry import load_model
from forwardinf.models.sd import StableDiffusion
from forwardinf.records.record import Record
from forwardinf.records.recording import matches_of, record_of
from forwardinf.records.upgrade import read_record
from forwardinf.scoring.score import score
from forwardinf.sweep.executors.threads import measured_by_batch
from forwardinf.sweep.losses import losses
from forwardinf.sweep.rounds import Measured, Round
from forwardinf.sweep.table import Table
from forwardinf.types import InfluenceScores, LatentBatch, ModelSpec, Query

COUNT = 12
PLAN = BuildPlan(draws=4, fisher_images=6, fisher_draws=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder of smooth colour patches."""
    return write_patches(tmp_path_factory.mktemp("patches"), COUNT)


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="attention"))


@pytest.fixture(scope="module")
def index(folder: Path, model: StableDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Index:
    return build_index(model, training_images(folder), tmp_path_factory.mktemp("index") / "patches", PLAN)


@pytest.fixture
def attributor(model: StableDiffusion, index: Index) -> Attributor:
    return Attributor(model, index)


def state_of(model: StableDiffusion) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.unet.state_dict().items()}


def unchanged(model: StableDiffusion, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(p, before[name]) for name, p in model.unet.state_dict().items())


def picture(folder: Path, number: int) -> Image.Image:
    return Image.open(folder / f"{number:02}.png").convert("RGB")


def test_an_index_built_again_has_the_same_bytes(folder: Path, model: StableDiffusion, index: Index, tmp_path: Path):
    again = build_index(model, training_images(folder), tmp_path / "again", PLAN)
    assert again.fingerprint == index.fingerprint
    for name in files_of(index):
        assert (again.folder / name).read_bytes() == (index.folder / name).read_bytes(), name


def files_of(index: Index) -> dict[str, str]:
    """SHA-256 of every file, as the manifest records it."""
    return json.loads((index.folder / "manifest.json").read_text())["files"]


def test_an_interrupted_build_goes_on_and_gives_the_same_bytes(
    folder: Path, model: StableDiffusion, index: Index, tmp_path: Path
):
    small_shards = replace(PLAN, shard_size=5)
    out = tmp_path / "cut"

    def stop(stage: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(model, training_images(folder), out, small_shards, stop)
    first = (out / shard_name(0)).stat().st_mtime_ns
    resumed = build_index(model, training_images(folder), out, small_shards)
    assert (out / shard_name(0)).stat().st_mtime_ns == first
    whole = build_index(model, training_images(folder), tmp_path / "whole", small_shards)
    assert files_of(resumed) == files_of(whole)
    assert len([name for name in files_of(whole) if name.startswith("shards/")]) == 3
    torch.testing.assert_close(whole.base_losses, index.base_losses, rtol=1e-5, atol=1e-6)
    with pytest.raises(IndexMismatch, match="made otherwise"):
        build_index(model, training_images(folder), out, PLAN)


def test_base_losses_and_sizes_are_those_of_the_stored_latents(model: StableDiffusion, index: Index):
    (shard,) = index.shards()
    assert shard.batch.latents.dtype == torch.float16
    draws = index.info.plan.draws(shard.batch.example_ids, shard.batch.latents.shape[1:])
    sizes = model.prediction(shard.batch, draws).detach().square().flatten(2).mean(dim=2)
    torch.testing.assert_close(index.base_sizes, sizes)
    part = index.part([shard.batch.example_ids[2]])
    assert torch.equal(part.base_sizes, index.base_sizes[2:3])
    assert torch.equal(next(part.shards()).base_sizes, index.base_sizes[2:3])
    assert torch.equal(measured(model, shard.batch, index.info.plan), index.base_losses)


def test_thumbnails_carry_no_metadata_and_the_credit_is_kept(index: Index):
    image = index.catalog.images[3]
    assert (image.creator, image.licence, image.caption) == ("Ada", "CC0-1.0", "patch 3")
    with Image.open(io.BytesIO(index.thumbnail_files.read(image.file_name))) as thumbnail:
        assert not thumbnail.getexif()


@pytest.mark.parametrize(
    ("line", "named"),
    [("not json", "line 1"), ('{"text": "x"}', "line 1"), ('{"file_name": "../x.png", "text": "x"}', r"\.\./x\.png")],
)
def test_metadata_that_cannot_be_used_is_named(tmp_path: Path, line: str, named: str):
    (tmp_path / "metadata.jsonl").write_text(line)
    with pytest.raises(InvalidRequest, match=named):
        training_images(tmp_path)


def test_the_index_and_a_query_see_the_same_picture(model: StableDiffusion, tmp_path: Path):
    write_patches(tmp_path, 1)
    patch = Image.open(tmp_path / "00.png")
    patch.putalpha(Image.linear_gradient("L").resize(patch.size))
    turned = Image.Exif()
    turned[274] = 6
    patch.save(tmp_path / "00.png", exif=turned)
    built = build_index(model, training_images(tmp_path), tmp_path / "index", BuildPlan(draws=2, fisher_images=1))
    seen = read_picture((tmp_path / "00.png").read_bytes()).rgb
    (shard,) = built.shards()
    torch.testing.assert_close(shard.batch.latents, model.encode_image([to_square(seen, model.picture_size)]).half())
    with Image.open(io.BytesIO(built.thumbnail_files.read(built.catalog.images[0].file_name))) as thumbnail:
        assert thumbnail.tobytes() == seen.tobytes()


def test_a_query_may_move_only_weights_that_the_index_knows(index: Index, folder: Path):
    whole = StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="all"))
    with pytest.raises(IndexMismatch, match=r"“attention”.*weights are missing, such as .*--tunable “all”"):
        Attributor(whole, index)
    part = StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="cross-attention k,v"))
    mirrored = Attributor(part, index).prepare(Attributor(part, index).query(picture(folder, 0)), ForwardInf())
    assert mirrored.rounds[-1].deltas.keys() == part.tunable_parameters().keys() < index.fisher().keys()


def test_an_older_index_is_refused(index: Index, tmp_path: Path):
    fields = json.loads((index.folder / "index.json").read_text())
    older = {key: value for key, value in fields.items() if "embedder" not in key} | {"schema": 1}
    (tmp_path / "index.json").write_text(json.dumps(older))
    with pytest.raises(IndexMismatch, match=r"schema 1; this version reads 6\. Build it again"):
        Index.open(tmp_path)


def test_an_index_of_another_model_and_a_damaged_index_are_refused(index: Index, tmp_path: Path):
    other = StableDiffusion(tiny_pipeline(seed=1), ModelSpec("other", tunable="attention"))
    with pytest.raises(IndexMismatch, match="another model"):
        Attributor(other, index)
    copy = tmp_path / "copy"
    shutil.copytree(index.folder, copy)
    for file in (copy / shard_name(0), copy / "neighbours.faiss"):
        kept = file.read_bytes()
        file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(DamagedAsset, match=file.name):
            Index.open(copy)
        file.write_bytes(kept)
    assert Index.open(copy).fingerprint == index.fingerprint
    with pytest.raises(MissingAsset, match=r"index\.json"):
        Index.open(tmp_path)


@pytest.mark.parametrize("direction", ["ascent", "descent"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_step_moves_the_querys_loss_by_its_budget_and_leaves_the_model_alone(
    attributor: Attributor, folder: Path, direction: str, steps: int
):
    before = state_of(attributor.model)
    method = ForwardInf(direction=direction, steps=steps, loss_budget=0.02)
    mirrored = attributor.prepare(attributor.query(picture(folder, 0), "patch 0"), method)
    wanted = 0.02 if direction == "ascent" else -0.02
    assert mirrored.loss_after / mirrored.loss_before - 1 == pytest.approx(wanted, rel=0.1)
    assert unchanged(attributor.model, before)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    """The shipped model with an index of 24 of its training images."""
    model = load_model(ModelSpec(str(ASSETS / "emoji-diffusion"), tunable="all"))
    train = Catalog.load(ASSETS / "emoji").of_split("train")
    few = Catalog(train.folder, train.images[::128][:24])
    plan = BuildPlan(draws=8, fisher_images=8, fisher_draws=2)
    return Attributor(model, build_index(model, few, tmp_path_factory.mktemp("index") / "emoji", plan))


def test_a_query_without_a_prompt_borrows_the_caption_of_what_looks_most_like_it(
    attributor: Attributor, index: Index, folder: Path
):
    bare = attributor.query(picture(folder, 3), " ")
    alike = attributor.similarities(picture(folder, 3))
    nearest = index.catalog.images[int(alike.argmax())]
    assert (bare.prompt, bare.fallback_caption) == (" ", nearest.caption)
    told = attributor.query(picture(folder, 3), nearest.caption)
    assert told.fallback_caption is None
    assert (bare.prompted, told.prompted) == (False, True)
    assert torch.equal(bare.conditioning, told.conditioning)
    captions = {prompted: _record(attributor, query) for prompted, query in ((False, bare), (True, told))}
    assert captions[False].query.fallback_caption == nearest.caption
    assert [row.caption for row in captions[False].results if row.is_fallback_caption] == [nearest.caption]
    assert captions[True].query.fallback_caption is None
    assert not any(row.is_fallback_caption for row in captions[True].results)


def _record(attributor: Attributor, query: Query, top: int = 24, **facts) -> Record:
    *_, last = attributor.follow(query)
    return record_of(answer_of(attributor, query, ForwardInf(), last), attributor.index, top, **facts)


def test_only_images_trained_on_lend_their_captions(model: StableDiffusion, folder: Path, tmp_path: Path):
    source = shutil.copytree(folder, tmp_path / "images")
    lines = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    lines[3]["split"] = "held_out"
    (source / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    held = Attributor(model, build_index(model, training_images(source), tmp_path / "index", PLAN))
    assert int(held.similarities(picture(folder, 3)).argmax()) == 3
    assert held.query(picture(folder, 3)).fallback_caption not in (None, lines[3]["text"])


def test_a_degraded_copy_looks_most_like_its_original(shipped: Attributor):
    files = {image.id: ASSETS / "emoji" / image.file_name for image in Catalog.load(ASSETS / "emoji").images}
    ids = [image.id for image in shipped.index.catalog.images]
    for example_id in ids[::4]:
        original = Image.open(files[example_id]).convert("RGB")
        assert shipped.similarities(original)[ids.index(example_id)] == pytest.approx(1, abs=1e-5)
        degraded = original.resize((48, 48)).point(lambda value: min(255, value + 8))
        assert int(shipped.similarities(degraded).argmax()) == ids.index(example_id), example_id


@pytest.mark.parametrize("direction", ["ascent", "descent"])
def test_a_planted_copy_of_the_query_ranks_first(shipped: Attributor, direction: str):
    artwork = Catalog.load(ASSETS / "emoji")
    files = {image.id: artwork.path_of(image) for image in artwork.images}
    method = ForwardInf(direction=direction)
    for image in shipped.index.catalog.images[::12]:
        original = Image.open(files[image.id]).convert("RGB")
        scores = shipped.attribute(original, image.caption, method)
        assert scores.rank_of(image.id) == 1, image.id


@pytest.fixture(scope="module")
def curved(folder: Path, model: StableDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    """With an index that holds the Kronecker-factored Fisher too."""
    out = tmp_path_factory.mktemp("index") / "curved"
    return Attributor(model, build_index(model, training_images(folder), out, replace(PLAN, kronecker=True)))


@pytest.mark.parametrize("curvature", ["fisher", "kronecker", "none"])
def test_forward_inf_is_the_change_of_loss_along_the_querys_own_gradient(
    curved: Attributor, folder: Path, curvature: str
):
    attributor, model, index = curved, curved.model, curved.index
    bare = {"standardised": False, "one_sided": False, "likeness": False, "size_draws": 0}
    method = ForwardInf(curvature=curvature, score="difference", loss_budget=0.02, **bare)
    query = attributor.query(picture(folder, 3), "patch 3")
    found = attributor.attribute(picture(folder, 3), "patch 3", method)

    draws = index.info.plan.draws([query.id], query.latents.shape[1:])
    tunable = model.tunable_parameters()
    gradients = torch.autograd.grad(model.loss(query.batch(), draws).mean(), list(tunable.values()))
    move = dict(zip(tunable, gradients, strict=True))
    if curvature == "fisher":
        move = preconditioned(move, {name: WeightCurvature(f) for name, f in index.fisher().items()}, 0.1)
    if curvature == "kronecker":
        move = preconditioned(move, index.kronecker(), 0.1)
    (factor,) = attributor.prepare(query, method).step_sizes
    (shard,) = index.shards()
    with model.with_deltas({name: factor * m for name, m in move.items()}):
        moved = measured(model, shard.batch, index.info.plan)
    assert torch.equal(found.per_draw, moved - index.base_losses)


def test_the_shipped_index_finds_a_training_image_among_all_of_them():
    attributor = Attributor.load()
    trained = attributor.index.catalog.of_split("train").images
    image = trained[1000]
    with Image.open(io.BytesIO(attributor.index.thumbnail_files.read(image.file_name))) as file:
        query = attributor.query(file.convert("RGB"), image.caption)
    *_, last = attributor.follow(query, effort=Effort())
    assert len(last.scores().example_ids) < 900 < len(trained) == 3065
    assert last.scores().rank_of(image.id) == 1


def test_scores_do_not_depend_on_batch_size_or_order(model: StableDiffusion, index: Index):
    plan = index.info.plan
    (shard,) = index.shards()
    whole, singly = measured(model, shard.batch, plan, 64), measured(model, shard.batch, plan, 1)
    torch.testing.assert_close(whole, singly, rtol=1e-5, atol=1e-6)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    ids = tuple(shard.batch.example_ids[i] for i in order)
    shuffled = LatentBatch(ids, shard.batch.latents[order], shard.batch.conditioning[order])
    torch.testing.assert_close(measured(model, shuffled, plan), whole[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("device", "shape", "expected"),
    [("cpu", (4, 8, 8), 64), ("cuda", (4, 8, 8), 1024), ("cpu", (4, 64, 64), 1), ("cuda", (4, 64, 64), 16)],
)
def test_a_batch_holds_what_keeps_the_device_busy(device: str, shape: tuple[int, ...], expected: int):
    ids = tuple(map(str, range(2000)))
    batch = LatentBatch(ids, torch.zeros(1).expand(len(ids), *shape), torch.zeros(len(ids), 1))
    model = SimpleNamespace(spec=ModelSpec("none", device=device))
    first, _ = next(measured_by_batch(model, [batch], 4, lambda part: part.conditioning))
    assert len(first.example_ids) == expected


def test_running_out_of_memory_halves_the_batch_down_to_a_single_example(
    model: StableDiffusion, index: Index, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    (shard,) = index.shards()
    plan = index.info.plan
    expected = measured(model, shard.batch, plan)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # one after the other, as on a GPU
    taken = model.loss

    held: list[weakref.ref[torch.Tensor]] = []

    def limited(limit: int) -> object:
        def loss(batch: LatentBatch, draws: object) -> torch.Tensor:
            assert not any(activation() is not None for activation in held)  # else there is no room for this one either
            if len(batch.example_ids) > limit:
                activation = torch.zeros(1)
                held.append(weakref.ref(activation))
                raise torch.OutOfMemoryError
            return taken(batch, draws)

        return loss

    gc.disable()  # which would let go of it some time
    request.addfinalizer(gc.enable)

    monkeypatch.setattr(model, "loss", limited(2))
    halved = measured(model, shard.batch, plan, 48)
    torch.testing.assert_close(halved, expected, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(model, "loss", limited(0))
    with pytest.raises(OutOfMemory, match=r"ran out of memory on a single picture.*--dtype float16"):
        measured(model, shard.batch, plan, 48)
    assert len(held) == 3 + 4


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_come_in_order_however_many_threads_measure_them(model: StableDiffusion, index: Index, threads: int):
    (shard,) = index.shards()
    plan, own = index.info.plan, torch.get_num_threads()
    expected = measured(model, shard.batch, plan)
    seen: set[str] = set()
    together = threading.Barrier(threads)

    def measure(batch: LatentBatch) -> torch.Tensor:
        if len(seen) < threads:  # the first batches are under way at the same time
            seen.add(threading.current_thread().name)
            together.wait(timeout=60)
        return losses(model, batch, plan.draws(batch.example_ids, batch.latents.shape[1:]))

    torch.set_num_threads(threads)
    try:
        found = list(measured_by_batch(model, [shard.batch], plan.count, measure, plan.count))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(own)
    assert [batch.example_ids for batch, _ in found] == [(example_id,) for example_id in shard.batch.example_ids]
    assert len(seen) == threads
    torch.testing.assert_close(torch.cat([values for _, values in found]), expected, rtol=1e-5, atol=1e-6)


def test_a_cancelled_and_a_failed_sweep_restore_the_model_and_a_good_one_follows(
    attributor: Attributor, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    model, before = attributor.model, state_of(attributor.model)
    method = ForwardInf()
    mirrored = attributor.prepare(attributor.query(picture(folder, 1)), method)
    running = attributor.sweep(mirrored, method, batch_size=3)
    assert next(running).quantity == "likeness"
    assert next(found for found in running if found.quantity == "loss").example_ids == ("00.png",)
    assert not unchanged(model, before)
    running.close()
    assert unchanged(model, before)
    with monkeypatch.context() as broken:
        broken.setattr(model, "loss", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(attributor.sweep(mirrored, method))
    assert unchanged(model, before)
    assert len(attributor.attribute(picture(folder, 1), method=method).scores) == COUNT


def test_scores_follow_their_formulas():
    base, moved = torch.tensor([[1.0, 2.0], [0.5, 0.5]]), torch.tensor([[1.5, 2.0], [0.25, 0.5]])
    rounds, results = [Round("loss", (0, 1))], [Measured("loss", (0, 1), ("a", "b"), moved)]
    known = Table.of(("a", "b"), base, torch.zeros(2, 2), rounds, results)

    def found(**settings: object) -> InfluenceScores:
        bare = {"likeness": False, "standardised": False, "one_sided": False}
        return score(ForwardInf(**{**bare, **settings}).changes(None, known))

    plain = found(score="difference")
    assert plain.scores.tolist() == [0.25, -0.125]
    assert plain.standard_errors[0] == pytest.approx(0.25)
    assert found(score="difference", direction="descent").scores.tolist() == [-0.25, 0.125]
    assert found(score="absolute").scores.tolist() == [0.25, 0.125]
    assert found(score="difference", one_sided=True).per_draw.tolist() == [[0.5, 0.0], [0.0, 0.0]]
    assert found(score="skew").scores[0] == pytest.approx((0.5 / 2.501 + 0) / 2)
    assert found(score="root").scores[0] == pytest.approx((1.5**0.5 - 1) / 2)
    assert plain.top(1)[0][0] == "a"


@pytest.mark.parametrize("k", [0, 1, 5, 40, 60, 100])
def test_the_most_influential_come_first_with_ties_in_the_order_of_ids(k: int):
    random = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 6, (60,), generator=random).float()  # nearly all tie with some
    scores[7] = float("nan")
    ids = tuple(f"image {n}" for n in torch.randperm(60, generator=random).tolist())
    value = [-math.inf if score != score else score for score in scores.tolist()]
    expected = sorted(range(60), key=lambda i: (-value[i], ids[i]))[:k]
    top = InfluenceScores(ids, scores, torch.arange(60.0), scores[:, None]).top(k)
    assert [(found, error) for found, _, error in top] == [(ids[i], float(i)) for i in expected]
    assert all(score == value[i] for (_, score, _), i in zip(top, expected, strict=True) if i != 7)


def test_ties_and_scores_that_are_no_number_count_against_a_rank():
    scores = torch.tensor([2.0, 1.0, 1.0, float("nan")])
    found = InfluenceScores(("a", "b", "c", "d"), scores, scores, scores[:, None])
    assert [found.rank_of(example_id) for example_id in "abcd"] == [2, 4, 4, 4]
    assert InfluenceScores(("a", "b"), scores[:2], scores[:2], scores[:2, None]).rank_of("a") == 1


def test_the_fisher_is_the_mean_squared_gradient(model: StableDiffusion, index: Index):
    (shard,) = index.shards()
    one = LatentBatch(shard.batch.example_ids[:1], shard.batch.latents[:1], shard.batch.conditioning[:1])
    plan = DrawPlan(0, 2)
    fisher = diagonal_fisher(model, [one], plan)
    per_draw = model.loss(one, plan.draws(one.example_ids, tuple(one.latents.shape[1:])))[0]
    name, weights = next(iter(model.tunable_parameters().items()))
    gradients = [torch.autograd.grad(loss, weights, retain_graph=True)[0] for loss in per_draw]
    torch.testing.assert_close(fisher[name], (gradients[0].square() + gradients[1].square()) / 2)


def test_a_kept_fisher_is_what_was_estimated_however_small(tmp_path: Path):
    random = torch.Generator().manual_seed(0)
    fisher = {
        "w": torch.rand(64, 32, generator=random) ** 8 * 1e-9,
        "b": torch.tensor([0.0, 3e-20]),
        "z": torch.zeros(2),
    }
    write_fisher(tmp_path, fisher)
    assert weights_of(tmp_path) == fisher.keys()
    read = read_fisher(Manifest(tmp_path, {}).with_files(FISHER))
    for name, squares in fisher.items():
        floor = 1e-3 * float(squares.mean())  # far below the damping
        torch.testing.assert_close(read[name], squares, rtol=1e-3, atol=floor)
        assert read[name].dtype == torch.float32


def test_an_index_holds_the_kronecker_factored_fisher_where_it_is_asked_for(
    folder: Path, model: StableDiffusion, index: Index, tmp_path: Path
):
    with pytest.raises(IndexMismatch, match=r"“patches”.*--kronecker"):
        Attributor(model, index).attribute(picture(folder, 0), method=ForwardInf(curvature="kronecker"))
    shutil.copytree(index.folder, tmp_path / "added")
    asked = replace(PLAN, kronecker=True)
    first = (tmp_path / "added" / shard_name(0)).stat().st_mtime_ns
    added = build_index(model, training_images(folder), tmp_path / "added", asked)
    assert (added.folder / shard_name(0)).stat().st_mtime_ns == first
    again = build_index(model, training_images(folder), tmp_path / "again", asked)
    assert again.fingerprint == added.fingerprint != index.fingerprint
    assert files_of(added).keys() - files_of(index).keys() == {"kronecker.safetensors"}
    assert files_of(added)["fisher.safetensors"] == files_of(index)["fisher.safetensors"]

    read, diagonal = added.kronecker(), added.fisher()
    assert read.keys() == diagonal.keys() == model.tunable_parameters().keys()
    for name, own in read.items():
        assert (own.outputs is None) == (own.inputs is None) == (own.moments.ndim != 2)
        torch.testing.assert_close(own.moments.sum(), diagonal[name].sum(), rtol=1e-3, atol=0)  # float16 shares

    (shard,) = index.shards()
    estimated = kronecker_fisher(model, [shard.part(frozenset({"00.png"})).batch], DrawPlan(0, 1))
    write_kronecker(added.folder, estimated)
    for name, own in added.with_files(KRONECKER).kronecker().items():
        for part, kept in vars(own).items():
            given = vars(estimated[name])[part]
            assert kept is given is None or torch.equal(kept, given), (name, part)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"direction": "up"},
        {"score": "sum"},
        {"loss_budget": 0},
        {"loss_budget": 1e-320},
        {"direction": "descent", "loss_budget": 1},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict):
    with pytest.raises(InvalidRequest):
        ForwardInf(**wrong)


def test_a_record_holds_what_reproduces_it_and_the_credits(attributor: Attributor, folder: Path):
    query = attributor.query(picture(folder, 2), "patch 2", sha256_of(folder / "02.png"))
    made = _record(attributor, query, 3, notes=["Turned upright."], file_name="02.png", seconds=1.5)
    assert read_record(made.to_json()) == made
    assert made.query.sha256 == sha256_of(folder / "02.png")
    assert (made.query.notes, made.query.file_name, made.seconds) == (("Turned upright.",), "02.png", 1.5)
    assert made.model.fingerprint == attributor.model.fingerprint
    assert (made.index.fingerprint, made.index.name) == (attributor.index.fingerprint, attributor.index.folder.name)
    assert made.index.trained == len(attributor.index.trained)
    assert {"name": made.method.name, **made.method.settings} == settings_of(ForwardInf())
    assert made.verdict.startswith("It is not known")  # as this index has no reference
    assert made.mirrored.loss_after > made.mirrored.loss_before
    assert [row.rank for row in made.results] == [1, 2, 3]
    assert {(row.creator, row.repeats, row.size_draws) for row in made.results} == {("Ada", 1, 1)}


def test_an_answer_has_every_training_image_with_its_similarity(attributor: Attributor, folder: Path):
    query = attributor.query(picture(folder, 2), "patch 2")
    *_, last = attributor.follow(query)
    answer = answer_of(attributor, query, ForwardInf(), last)
    index, scores = attributor.index, last.scores()
    assert answer.scores.example_ids == scores.example_ids
    alike = attributor.similarities(query.picture).tolist()
    expected = dict(zip((image.id for image in index.catalog.images), alike, strict=True))
    assert answer.similarities == {example_id: expected[example_id] for example_id in scores.example_ids}
    matches = list(matches_of(answer, index.catalog))
    assert [(m.id, m.score, m.standard_error) for m in matches] == scores.top(len(scores.example_ids))
    by_similarity = sorted(matches, key=lambda m: m.similarity_rank)
    assert [m.similarity for m in by_similarity] == sorted(answer.similarities.values(), reverse=True)
    assert answer.missed == ()
    *_, few = replace(attributor, index=index.part(scores.example_ids[1:])).follow(query)
    assert answer_of(attributor, query, ForwardInf(), few).missed == scores.example_ids[:1]


def test_scores_that_are_no_numbers_are_refused_by_name(attributor: Attributor, folder: Path):
    query = attributor.query(picture(folder, 2), "patch 2")
    *_, last = attributor.follow(query)
    broken = [replace(found, values=found.values.clone()) for found in last.results]
    for found in broken:
        found.values[1] = float("nan")
    with pytest.raises(InvalidRequest, match=r"training images are not finite.*“\d\d\.png”"):
        answer_of(attributor, query, ForwardInf(), replace(last, results=tuple(broken), null=None))


def test_a_part_of_an_index_sweeps_these_examples_alone(model: StableDiffusion, folder: Path, tmp_path: Path):
    plan = replace(PLAN, shard_size=5)
    whole = Attributor(model, build_index(model, training_images(folder), tmp_path / "index", plan))
    chosen = ["11.png", "03.png", "01.png"]  # none of the second shard
    part = Attributor(model, whole.index.part(chosen))
    method = ForwardInf()
    mirrored = whole.prepare(whole.query(picture(folder, 3)), method)
    every, few = table(whole, mirrored, method), table(part, mirrored, method)
    *_, last = part.follow(whole.query(picture(folder, 3)), method)
    assert last.done == last.total == part.index.count == 3
    assert few.example_ids == ("01.png", "03.png", "11.png")
    rows = [every.example_ids.index(example_id) for example_id in few.example_ids]
    torch.testing.assert_close(few.base_losses, every.base_losses[rows])
    for quantity in ("loss", "size", "likeness"):
        torch.testing.assert_close(few[quantity], every[quantity][rows], rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidRequest, match=r"99\.png"):
        whole.index.part(["99.png"])


def test_methods_are_found_by_name():
    assert load_method("forward_inf", steps=3, score=None) == ForwardInf(steps=3)
    with pytest.raises(InvalidRequest, match="forward_inf"):
        load_method("no.such")
    with pytest.raises(InvalidRequest, match="loss_budget"):
        load_method("forward_inf", alpha=1)


def test_threads_that_start_after_a_sweep_have_all_of_torchs_threads(model: StableDiffusion, index: Index):
    """torch hands a new thread the number that was set last, which a sweep's workers set to their share."""
    (shard,) = index.shards()
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        measured(model, shard.batch, index.info.plan, 4)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 4
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_query_whose_loss_gives_no_measure_for_a_step_is_refused(
    attributor: Attributor, folder: Path, monkeypatch: pytest.MonkeyPatch, value: float
):
    query, loss = attributor.query(picture(folder, 1), "patch 1"), attributor.model.loss
    monkeypatch.setattr(attributor.model, "loss", lambda batch, draws: loss(batch, draws) * 0 + value)
    with pytest.raises(InvalidRequest, match=f"loss on this query is {value}.*not finite"):
        attributor.prepare(query)
