"""Every method on a tiny model that learned a few pictures: what all of them promise, then each one's equations."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import measured, table, tiny_pipeline, write_patches
from forwardinf import methods
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.tables import table_of
from forwardinf.attribution.training_set import IndexedImages, batches_of
from forwardinf.cli.options import null_pictures_for
from forwardinf.draws import DrawPlan
from forwardinf.errors import DamagedAsset, InvalidRequest
from forwardinf.examples.metadata import training_images
from forwardinf.files.rows import RowCache
from forwardinf.gradients import per_example as gradients
from forwardinf.gradients.sketch import Sketch
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.methods.mucs import FORGOTTEN, Mucs
from forwardinf.methods.protocol import AttributionMethod, settings_of
from forwardinf.methods.registry import SHARED, load_method
from forwardinf.methods.tracin import TracIn
from forwardinf.methods.trak import Trak, kernel_weights
from forwardinf.models.sd import StableDiffusion
from forwardinf.scoring.likeness import likeness
from forwardinf.scoring.score import score
from forwardinf.studies import self_retrieval
from forwardinf.studies.journal import Journal
from forwardinf.studies.self_retrieval import SelfRetrieval
from forwardinf.sweep.executors.threads import ThreadExecutor
from forwardinf.sweep.journal import identities
from forwardinf.sweep.rounds import ALL_DRAWS
from forwardinf.sweep.table import Table
from forwardinf.types import Draws, LatentBatch, ModelSpec, Query

COUNT = 8
BY_NAME = [
    ("forward_inf", {}),
    ("forward_inf", {"own_draws": 8}),
    ("steady", {"own_draws": 8}),
    ("plain", {}),
    ("abu", {}),
    ("forward_inf", {"size_draws": 0}),
    ("abu_plus", {}),
    ("mucs", {"learning_rate": 1e-3, "max_steps": 8, "batch": 8}),
    ("tracin", {"query_draws": 16}),
    ("tracin", {"query_draws": 16, "normalised": True}),
    ("trak", {"query_draws": 16, "dimensions": 256}),
    ("dtrak", {"query_draws": 16, "dimensions": 256}),
    ("das", {"query_draws": 16, "dimensions": 256}),
    ("das", {"query_draws": 16, "dimensions": 256, "squared": False}),
    ("similarity", {}),
    ("similarity", {"space": "latents"}),
    ("random", {}),
]
each_method = pytest.mark.parametrize(
    "method", [load_method(name, **given) for name, given in BY_NAME], ids=[name for name, _ in BY_NAME]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"), COUNT)


class Shrinking(StableDiffusion):
    """Latents are the picture made small, as those of an untrained autoencoder hardly tell pictures apart."""

    def encode_image(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        small = torch.from_numpy(np.stack([np.asarray(p.resize((8, 8)), np.float32) for p in pictures])) / 80 - 1.6
        return torch.cat([small, small.mean(dim=3, keepdim=True)], dim=3).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def attributor(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    """A tiny model that took a few steps on the pictures, with their index."""
    model = Shrinking(tiny_pipeline(), ModelSpec("tiny", tunable="all"))
    catalog = training_images(folder)
    latents = model.encode_image([picture(folder, number) for number in range(COUNT)])
    conditioning = model.encode_prompt([image.caption for image in catalog.images])
    batch = LatentBatch(tuple(image.id for image in catalog.images), latents, conditioning)
    optimiser = torch.optim.AdamW(model.tunable_parameters().values(), lr=3e-3)
    for step in range(60):
        draws = DrawPlan(1000 + step, 4).draws(batch.example_ids, latents.shape[1:])
        optimiser.zero_grad()
        model.loss(batch, draws).mean().backward()
        optimiser.step()
    learned = Shrinking(model.pipeline, model.spec)  # with the fingerprint of what it is now
    plan = BuildPlan(draws=4, fisher_images=8, fisher_draws=2, kronecker=True)
    return Attributor(learned, build_index(learned, catalog, tmp_path_factory.mktemp("index") / "patches", plan))


@pytest.fixture
def query(attributor: Attributor, folder: Path) -> Query:
    return attributor.query(picture(folder, 3), "patch 3")


def picture(folder: Path, number: int) -> Image.Image:
    return Image.open(folder / f"{number:02}.png").convert("RGB")


def seen(attributor: Attributor) -> IndexedImages:
    return IndexedImages(attributor.index, attributor.cache, attributor.similarities)


def swept(attributor: Attributor, method: AttributionMethod, query: Query, batch_size: int = 64) -> Table:
    return table(attributor, attributor.prepare(query, method), method, batch_size)


def weights_of(model: StableDiffusion) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.unet.state_dict().items()}


def unchanged(model: StableDiffusion, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(p, before[name]) for name, p in model.unet.state_dict().items())


def own_gradient(model: StableDiffusion, loss: torch.Tensor) -> torch.Tensor:
    parts = torch.autograd.grad(loss, list(model.tunable_parameters().values()), retain_graph=True)
    return torch.cat([part.flatten() for part in parts])


def test_no_method_is_left_out():
    assert {name for name, _ in BY_NAME} == {module.name for module in iter_modules(methods.__path__)} - set(SHARED)


@each_method
def test_a_planted_copy_of_the_query_ranks_first(attributor: Attributor, folder: Path, method: AttributionMethod):
    ranks = [attributor.attribute(picture(folder, n), f"patch {n}", method).rank_of(f"{n:02}.png") for n in (3, 5)]
    assert (ranks == [1, 1]) == (settings_of(method)["name"] != "random")


@each_method
def test_what_is_measured_depends_on_no_batch_size_no_order_and_no_interruption(
    attributor: Attributor, query: Query, method: AttributionMethod
):
    state = attributor.prepare(query, method)
    whole, singly = (table(attributor, state, method, size) for size in (64, 1))
    (shard,) = attributor.index.shards()
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    ids = tuple(shard.batch.example_ids[i] for i in order)
    shuffled = LatentBatch(ids, shard.batch.latents[order], shard.batch.conditioning[order])
    executor = ThreadExecutor(attributor.model, lambda _: [shuffled], batch_size=12)
    tasks = list(executor.run(reversed(attributor.jobs(state, method))))
    results = (*tasks[1::2], *tasks, *tasks[::2])  # in another order, and some of them twice
    elsewhere = table_of(attributor.index, state, results)
    for quantity in whole.quantities:
        for other in (singly, elsewhere):
            torch.testing.assert_close(other[quantity], whole[quantity], rtol=1e-4, atol=1e-6)
    expected = score(method.changes(state, whole)).scores
    torch.testing.assert_close(score(method.changes(state, elsewhere)).scores, expected, rtol=1e-3, atol=1e-5)


@each_method
def test_a_job_measures_the_same_after_it_was_pickled(
    attributor: Attributor, query: Query, method: AttributionMethod, tmp_path: Path
):
    cached = replace(attributor, cache=tmp_path)
    jobs = cached.jobs(cached.prepare(query, method), method)
    carried = pickle.loads(pickle.dumps(jobs))
    assert [job.model for job in carried] == [attributor.model.spec] * len(jobs)
    assert {job.index.fingerprint for job in carried} == {attributor.index.fingerprint}
    assert identities(carried) == identities(jobs)
    executor = ThreadExecutor(attributor.model, partial(batches_of, attributor.index))
    for here, there in zip(list(executor.run(jobs)), list(executor.run(carried)), strict=True):
        assert torch.equal(here.values, there.values)


@each_method
def test_a_cancelled_attribution_leaves_the_weights_as_they_were(
    attributor: Attributor, query: Query, method: AttributionMethod
):
    before = weights_of(attributor.model)
    state = attributor.prepare(query, method)
    assert unchanged(attributor.model, before)
    running = attributor.sweep(state, method, 4)
    moving = [one_round.quantity for one_round in state.rounds if one_round.deltas]
    found = next(found for found in running if not moving or found.quantity in moving)
    assert len(found.example_ids) == 1 or not state.rounds[0].draws
    assert unchanged(attributor.model, before) == (not moving)
    running.close()
    assert unchanged(attributor.model, before)


@each_method
def test_a_study_takes_any_method_and_records_its_settings(
    attributor: Attributor, folder: Path, method: AttributionMethod, tmp_path: Path
):
    study = SelfRetrieval(queries=1, candidates=4, variants=("clean",))
    journal = Journal(tmp_path / "trials.jsonl")
    (trial,) = self_retrieval.run(study, attributor, method, training_images(folder), journal)
    assert 1 <= trial["rank"] <= 4
    assert trial["failed"] is None
    assert trial["settings"]["method"] == settings_of(method)
    assert "NaN" not in json.dumps(trial)
    assert self_retrieval.run(study, attributor, method, training_images(folder), journal) == [trial]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("mucs", {"max_steps": 0}),
        ("mucs", {"null_loss": 0}),
        ("mucs", {"noise_from": 1}),
        ("mucs", {"batch": "many"}),
        ("tracin", {"query_draws": 0}),
        ("trak", {"damping": 0}),
        ("dtrak", {"dimensions": 0}),
        ("similarity", {"space": "pixels"}),
        ("forward_inf", {"curvature": "hessian"}),
        ("forward_inf", {"damping": -1}),
        ("forward_inf", {"steps": 1.5}),
        ("forward_inf", {"steps": True}),
        ("forward_inf", {"loss_budget": float("nan")}),
        ("forward_inf", {"likeness": "False"}),  # Python's word, which would count as true
        ("tracin", {"normalised": "False"}),
        ("das", {"squared": 0}),
        ("trak", {"damping": "1"}),
    ],
)
def test_settings_out_of_range_are_refused(name: str, wrong: dict):
    with pytest.raises(InvalidRequest):
        load_method(name, **wrong)


def test_a_gradient_is_the_same_taken_of_a_few_draws_at_a_time(
    attributor: Attributor, query: Query, monkeypatch: pytest.MonkeyPatch
):
    model, draws = attributor.model, DrawPlan(0, 5).draws([query.id], query.latents.shape[1:])
    seen = []

    def counted(batch: LatentBatch, part: Draws) -> torch.Tensor:
        seen.append(part.u.shape[1])
        return model.loss(batch, part)

    whole = gradients.gradient(model, counted, query.batch(), draws)
    monkeypatch.setattr(gradients, "POSITIONS", 2 * query.latents[0, 0].numel())
    torch.testing.assert_close(gradients.gradient(model, counted, query.batch(), draws), whole, rtol=1e-4, atol=1e-7)
    assert seen == [5, 2, 2, 1]


@pytest.mark.parametrize("normalised", [False, True])
def test_tracin_is_the_inner_product_of_gradients(attributor: Attributor, query: Query, normalised: bool):
    model, plan = attributor.model, attributor.index.info.plan
    method = TracIn(normalised=normalised, query_draws=3)
    state = attributor.prepare(query, method)
    per_draw = method.changes(state, table(attributor, state, method)).per_draw
    asked = DrawPlan(0, 3).draws([query.id], query.latents.shape[1:])
    queries = [own_gradient(model, loss) for loss in model.loss(query.batch(), asked)[0]]
    (shard,) = attributor.index.shards()
    losses = model.loss(shard.batch, plan.draws(shard.batch.example_ids, shard.batch.latents.shape[1:]))
    exact = torch.empty_like(per_draw)
    for i, k in np.ndindex(*per_draw.shape):
        own = own_gradient(model, losses[i, k])
        exact[i, k] = sum(own @ g / (own.norm() * g.norm() if normalised else 1) for g in queries) / 3
    assert float((per_draw - exact).norm() / exact.norm()) < 1e-3


def test_tracin_takes_what_is_known_before_its_rounds_are_over(attributor: Attributor, query: Query):
    method = TracIn(normalised=True, query_draws=3)
    state = attributor.prepare(query, method)
    assert [one_round.quantity for one_round in state.rounds] == ["along", "against", "length"]
    tasks = list(attributor.sweep(state, method, 4))
    assert len(tasks) == 3 * COUNT
    tables = [table_of(attributor.index, state, tuple(tasks[: COUNT * n])) for n in (1, 2, 3)]
    found = [method.changes(state, known).per_draw for known in tables]
    assert float((found[0] - found[1]).norm() / found[1].norm()) < 0.2  # a difference to one side is less exact
    torch.testing.assert_close(found[2], found[1] / tables[2]["length"])


def test_retracs_lengths_are_computed_once(
    attributor: Attributor, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    method = TracIn(normalised=True, query_draws=2)
    cached = replace(attributor, cache=tmp_path / "cache")
    first = cached.attribute(picture(folder, 3), "patch 3", method)
    assert torch.equal(first.scores, attributor.attribute(picture(folder, 3), "patch 3", method).scores)
    state = cached.prepare(cached.query(picture(folder, 3), "patch 3"), method)
    with monkeypatch.context() as patched:
        patched.setattr("forwardinf.methods.tracin.gradient", None)  # none is taken any more
        again = table(cached, state, method)
    assert torch.equal(score(method.changes(state, again)).scores, first.scores)


def test_a_sketch_is_a_projection_that_keeps_inner_products_on_average():
    first, second = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    matrix = torch.stack([Sketch(50, 16, 7).project(unit) for unit in torch.eye(50)], dim=1)  # [16 50]
    torch.testing.assert_close(Sketch(50, 16, 7).project(first), matrix @ first)
    assert torch.equal(matrix.abs().sum(dim=0), torch.ones(50))
    products = [float(Sketch(50, 16, s).project(first) @ Sketch(50, 16, s).project(second)) for s in range(2000)]
    assert np.mean(products) == pytest.approx(float(first @ second), abs=4 * np.std(products) / 2000**0.5)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_the_kernel_is_the_regularised_inverse_of_the_gram_matrix(shape: tuple[int, int]):
    random = torch.Generator().manual_seed(0)
    features, query = (torch.randn(s, generator=random, dtype=torch.float64) for s in (shape, shape[1:]))
    gram = features.T @ features
    damped = 0.1 * gram.trace() / 5
    expected = torch.linalg.inv(gram + damped * torch.eye(shape[1])) @ query
    torch.testing.assert_close(kernel_weights(features, query, 0.1), expected)


@pytest.mark.parametrize("name", ["trak", "dtrak", "das"])
def test_trak_follows_its_equation(attributor: Attributor, query: Query, name: str):
    model, plan = attributor.model, attributor.index.info.plan
    method = load_method(name, dimensions=6, query_draws=3)
    state = attributor.prepare(query, method)
    known = table(attributor, state, method)
    measured_features = known["gradient"][:, 0]

    def features(batch: LatentBatch, draws: object) -> torch.Tensor:
        value = {"trak": model.loss, "dtrak": model.prediction, "das": model.prediction}[name](batch, draws)
        value = {"trak": value, "dtrak": value.square(), "das": value.abs()}[name]
        gradient = own_gradient(model, value.mean())
        return Sketch(len(gradient), 6, 0).project(gradient)

    (shard,) = attributor.index.shards()
    one = LatentBatch(shard.batch.example_ids[:1], shard.batch.latents[:1], shard.batch.conditioning[:1])
    own = features(one, plan.draws(one.example_ids, one.latents.shape[1:]))
    torch.testing.assert_close(measured_features[0], own, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        state.features, features(query.batch(), DrawPlan(0, 3).draws([query.id], query.latents.shape[1:]))
    )
    held_out = replace(state, trained=frozenset(known.example_ids[1:]))
    weights = kernel_weights(measured_features[1:].double(), state.features.double(), method.damping)
    scores = score(method.changes(held_out, known))
    expected = measured_features.double() @ weights
    if name == "das":
        errors = attributor.index.base_losses.sqrt().mean(dim=1)
        torch.testing.assert_close(
            method.changed(squared=False).changes(held_out, known).per_draw[:, 0], expected.float() * errors
        )
        expected = (expected * errors).square()
    torch.testing.assert_close(scores.scores, expected.float())
    assert scores.standard_errors.isnan().all()


def test_traks_features_are_computed_once_and_lie_outside_the_index(
    attributor: Attributor, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    method = Trak(dimensions=32, query_draws=2)
    files = sorted(attributor.index.folder.rglob("*"))
    cached = replace(attributor, cache=tmp_path / "cache")
    among = replace(cached, index=cached.index.part(["01.png", "03.png"]))
    among.attribute(picture(folder, 3), "patch 3", method)
    whole = cached.attribute(picture(folder, 3), "patch 3", method)
    assert torch.equal(whole.scores, attributor.attribute(picture(folder, 3), "patch 3", method).scores)
    assert sorted(attributor.index.folder.rglob("*")) == files
    (path,) = cached.cache.iterdir()
    rows = RowCache.open(path, COUNT, 32)
    rows.put(2, np.array([*[1.0] * 31, np.nan], np.float32))  # torn
    assert rows.get(2) is None

    state = cached.prepare(cached.query(picture(folder, 1)), method)
    taken: list[tuple[str, ...]] = []
    loss = attributor.model.loss
    monkeypatch.setattr(
        attributor.model, "loss", lambda batch, draws: taken.append(batch.example_ids) or loss(batch, draws)
    )
    again = table(cached, state, method)
    assert taken == [("02.png",)]
    assert rows.get(2) is not None
    assert torch.isfinite(again["gradient"]).all()
    with pytest.raises(DamagedAsset, match="another shape"):
        RowCache.open(path, COUNT, 31)
    path.write_bytes(b"no array")
    with pytest.raises(DamagedAsset, match="Remove it"):
        RowCache.open(path, COUNT, 32)


def test_mucs_unlearns_only_what_is_below_the_null_loss_and_stops_when_all_is_forgotten(
    attributor: Attributor, query: Query
):
    model = attributor.model
    forgotten = Mucs(null_loss=1e-6).prepare(model, query, seen(attributor))
    assert forgotten.step_sizes == ()
    assert all(not delta.any() for delta in forgotten.rounds[0].deltas.values())

    method = Mucs(learning_rate=3e-3, null_loss=0.6, max_steps=60, batch=8)
    losses = model.loss(query.batch(), method._draws(query.batch(), 1, 8))[0]
    null = float(losses.detach().sort().values[3:5].mean())  # half of the draws lie above it
    clamped = method.changed(null_loss=null)
    below = losses[losses < null]
    _, rising = clamped._forgetting(model, query, 0)
    gradient = torch.cat([part.flatten() for part in rising.values()])
    torch.testing.assert_close(gradient, own_gradient(model, below.sum() / 8), rtol=1e-3, atol=1e-6)

    state = method.prepare(model, query, seen(attributor))
    assert 0 < len(state.step_sizes) < 60
    assert state.loss_after > state.loss_before
    with model.with_deltas(state.rounds[0].deltas):
        assert method._forgetting(model, query, len(state.step_sizes))[0] >= FORGOTTEN * method.null_loss


def test_sizes_are_measured_at_the_noisiest_draws_after_a_step_of_their_own(attributor: Attributor, query: Query):
    model, plan = attributor.model, attributor.index.info.plan
    method = ForwardInf()
    state = attributor.prepare(query, method)
    likeness_round, errors, sizing = state.rounds
    assert [r.draws for r in state.rounds] == [(), (0, 1, 2), (3,)]
    assert (likeness_round.deltas, likeness_round.columns) == ({}, (ALL_DRAWS,))
    assert state.loss_after / state.loss_before == pytest.approx(1.1, abs=0.006)
    draws = plan.draws([query.id], query.latents.shape[1:])
    with torch.no_grad():
        before = float(model.prediction(query.batch(), draws).square().mean())
        with model.with_deltas(sizing.deltas):
            after = float(model.prediction(query.batch(), draws).square().mean())
    assert after / before == pytest.approx(1.03, abs=0.003)

    known = table(attributor, state, method)
    (shard,) = attributor.index.shards()
    with model.with_deltas(errors.deltas):
        moved = measured(model, shard.batch, plan)[:, :3]
    all_draws = plan.draws(shard.batch.example_ids, query.latents.shape[1:])
    with model.with_deltas(sizing.deltas), torch.no_grad():
        sizes = model.prediction(shard.batch, all_draws).square().mean(dim=(2, 3, 4))[:, 3:]
    torch.testing.assert_close(known["loss"], moved, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(known["size"], sizes, rtol=1e-4, atol=1e-6)
    base = torch.cat([attributor.index.base_losses[:, :3], attributor.index.base_sizes[:, 3:]], dim=1)
    change = torch.cat([moved, sizes], dim=1).sqrt() - base.sqrt()
    expected = ((change - change.mean(dim=0)) / change.std(dim=0)).clamp(min=0)
    changes = method.changes(state, known)
    assert changes.size_draws == 1
    torch.testing.assert_close(changes.per_draw, expected, rtol=1e-3, atol=1e-3)
    most = ForwardInf(size_draws=9).prepare(model, query, seen(attributor))
    assert [r.draws for r in most.rounds] == [(), (0,), (1, 2, 3)]  # an error is always measured


def test_sizes_count_once_those_of_all_images_are_measured(attributor: Attributor, query: Query):
    executor = ThreadExecutor(attributor.model, partial(batches_of, attributor.index), batch_size=1)
    watched = replace(attributor, executor=executor)
    events = list(watched.follow(query, ForwardInf()))
    assert len(events) == 2 * COUNT
    done = [event.done for event in events]
    assert (done, done[-1]) == (sorted(done), events[-1].total)
    assert [event.changes.size_draws for event in events] == [0] * (2 * COUNT - 1) + [1]
    first, last = events[0], events[-1]
    assert (len(first.scores().scores), len(events[2].scores().scores)) == (1, 3)  # what was known at that moment
    assert events[COUNT].scores().per_draw.shape == (COUNT, 3)
    scores, changes = last.scores(), last.changes
    errors, sizes = changes.per_draw[:, :3].mean(dim=1), changes.per_draw[:, 3]
    torch.testing.assert_close(scores.scores, errors * changes.likeness_weights + sizes.square())
    torch.testing.assert_close(scores.per_draw.mean(dim=1), scores.scores)


def test_mucs_scores_the_relative_rise_at_the_noisier_draws(attributor: Attributor, query: Query):
    method = Mucs(max_steps=2, batch=4)
    state = attributor.prepare(query, method)
    assert len(state.step_sizes) == 2
    known = table(attributor, state, method)
    (shard,) = attributor.index.shards()
    with attributor.model.with_deltas(state.rounds[0].deltas):
        moved = measured(attributor.model, shard.batch, attributor.index.info.plan)
    base = attributor.index.base_losses
    expected = ((moved - base) / (moved + base + 1e-3))[:, 1:]  # of 4 draws those from 0.1 on begin at 0.25
    torch.testing.assert_close(method.changes(state, known).per_draw, expected, rtol=1e-4, atol=1e-5)
    assert Mucs(noise_from=0.9)._noisier(1) == (0,)


def test_mucs_holds_on_to_images_that_were_trained_on_whichever_a_sweep_visits(
    attributor: Attributor, query: Query, monkeypatch: pytest.MonkeyPatch
):
    images = attributor.index.catalog.images
    catalog = replace(attributor.index.catalog, images=(replace(images[0], split="held_out"), *images[1:]))
    part = replace(attributor, index=replace(attributor.index, catalog=catalog).part(["03.png"]))
    (shard,) = attributor.index.shards()
    taken: set[str] = set()
    loss = attributor.model.loss

    def watched(batch: LatentBatch, draws: Draws) -> torch.Tensor:
        if batch.example_ids != (query.id,):
            taken.update(batch.example_ids)
            rows = [shard.batch.example_ids.index(example_id) for example_id in batch.example_ids]
            assert torch.equal(batch.latents, shard.batch.latents[rows])
        return loss(batch, draws)

    monkeypatch.setattr(attributor.model, "loss", watched)
    part.prepare(query, Mucs(max_steps=6, batch=3))
    assert taken == {f"{number:02}.png" for number in range(1, COUNT)}


def test_similarity_takes_the_indexs_own_embedder_or_the_latents(attributor: Attributor, folder: Path):
    scores = attributor.attribute(picture(folder, 2), "", load_method("similarity"))
    torch.testing.assert_close(scores.scores, attributor.similarities(picture(folder, 2)))
    for space in ("latents", "centred latents"):
        latents = attributor.attribute(picture(folder, 2), "", load_method("similarity", space=space))
        assert float(latents.scores[2]) == pytest.approx(1, abs=1e-4)
    assert float(latents.scores.min()) == 0
    shards = [shard.batch for shard in attributor.index.shards()]
    mean = torch.cat([batch.latents.float() for batch in shards]).mean(dim=0)
    torch.testing.assert_close(attributor.index.mean_latents, mean, atol=1e-3, rtol=1e-3)
    row, other = ((shards[0].latents[n].float() - mean).flatten() for n in (2, int(latents.scores.argsort()[-2])))
    assert float(latents.scores.sort().values[-2]) == pytest.approx(
        float(torch.cosine_similarity(row, other, 0)), abs=2e-3
    )


def test_an_image_that_moved_counts_for_more_where_it_looks_like_the_query(attributor: Attributor, query: Query):
    with_looks, without = ForwardInf(size_draws=0), ForwardInf(size_draws=0, likeness=False)
    *_, weighed = attributor.follow(query, with_looks)
    *_, plain = attributor.follow(query, without)
    raw, weights = plain.all_scores(), weighed.changes.likeness_weights
    assert plain.changes.likeness_weights is None
    torch.testing.assert_close(weighed.changes.per_draw, raw.per_draw)
    alike = torch.cat(
        [likeness(s.batch.latents, query.latents, attributor.index.mean_latents) for s in attributor.index.shards()]
    )
    expected = 1 + ((alike - alike.mean()) / alike.std()).clamp(min=0)[:, 0]
    torch.testing.assert_close(weights, expected, atol=1e-4, rtol=1e-4)
    assert float(weights.max()) > 1.5
    assert float(weights.min()) == 1
    torch.testing.assert_close(weighed.all_scores().scores, raw.scores * weights, atol=1e-4, rtol=1e-4)
    still = raw.scores == 0  # likeness alone counts for nothing
    assert bool((weighed.all_scores().scores[still] == 0).all())


def test_likeness_is_a_cosine_about_the_mean():
    mean = torch.ones(1, 2, 1)
    latents = torch.tensor([[2.0, 1.0], [1.0, 3.0], [0.0, 1.0], [1.0, 1.0]]).view(4, 1, 2, 1)
    assert likeness(latents, latents[:1], mean).flatten().tolist() == pytest.approx([1, 0, -1, 0])


def test_the_random_order_is_the_querys_own(attributor: Attributor, folder: Path):
    first, again, other = (
        attributor.attribute(picture(folder, number), "", load_method("random")).scores for number in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, attributor.attribute(picture(folder, 0), "", load_method("random", seed=1)).scores)
    assert bool(((first >= 0) & (first < 1)).all())


@pytest.mark.parametrize(("name", "curvature"), [("plain", "none"), ("abu", "fisher"), ("abu_plus", "kronecker")])
def test_a_form_of_the_papers_scores_the_mean_change_of_the_loss(
    attributor: Attributor, query: Query, name: str, curvature: str
):
    method = load_method(name)
    found = swept(attributor, method, query)
    ours = ForwardInf(curvature=curvature, likeness=False, size_draws=0, loss_budget=method.loss_budget)
    moved = swept(attributor, ours, query)  # the same step
    assert torch.equal(found["loss"], moved["loss"])
    changes = method.changes(attributor.prepare(query, method), found)
    change = found["loss"] - found.base_losses
    torch.testing.assert_close(score(changes).scores, (change.abs() if name == "plain" else change).mean(dim=1))
    assert changes.likeness_weights is None
    assert (null_pictures_for(method, None, 29), null_pictures_for(ForwardInf(), None, 29)) == (0, 29)
