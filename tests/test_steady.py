"""The method `steady`: its draws, its score, its rounds, and the null of sizes by products."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import Counted, table, tiny_pipeline, write_patches
from forwardinf.attribution import size_null
from forwardinf.attribution.answer import answer_of
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.build_null import HeldOut
from forwardinf.attribution.build_sketch import build_sketch
from forwardinf.attribution.paid import Paid
from forwardinf.attribution.planning import method_for, plan_for
from forwardinf.attribution.race import RACED, Race
from forwardinf.attribution.shortlist import Effort
from forwardinf.attribution.size_null import ANSWERS, STEPS, measure_size_null
from forwardinf.attribution.stages import OUT_OF_TIME
from forwardinf.cli import evidence
from forwardinf.draws import DrawPlan
from forwardinf.errors import DamagedAsset, InvalidRequest, StopRequested
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.decoding import to_square
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import build_index
from forwardinf.index.info import IndexInfo
from forwardinf.index.null_file import MAKING, SCORES, SETTINGS, NullSizes
from forwardinf.index.store import Index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.methods.steady import Steady
from forwardinf.models.sd import StableDiffusion
from forwardinf.records.recording import record_of
from forwardinf.records.upgrade import read_record
from forwardinf.scoring.confidence import rank_ranges
from forwardinf.scoring.null import NullDistribution
from forwardinf.scoring.score import score
from forwardinf.scoring.steady import SteadyChanges, standardised_at
from forwardinf.studies import calibration, disguised
from forwardinf.studies.calibration import Calibration
from forwardinf.studies.disguised import DISGUISES, Disguised, mirrored
from forwardinf.studies.estimate import Counts, Part, as_lines
from forwardinf.studies.journal import Journal
from forwardinf.studies.settings import settings_on
from forwardinf.types import InfluenceScores, ModelSpec, Query

COUNT, HELD_OUT = 26, 8
METHOD = Steady(own_draws=2, size_budget=0.01)  # an untrained model is less linear than a trained one


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = write_patches(tmp_path_factory.mktemp("patches"), COUNT)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for row in rows[-HELD_OUT:]:
        row["split"] = "held_out"
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return training_images(folder)


@pytest.fixture(scope="module")
def attributor(source: Catalog, model: StableDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    plan = plan_for(METHOD, fisher_images=4, fisher_draws=2, shard_size=16)
    return Attributor(model, build_index(model, source, tmp_path_factory.mktemp("index") / "steady", plan))


@pytest.fixture(scope="module")
def query(attributor: Attributor, source: Catalog) -> Query:
    return attributor.query(source.picture(source.images[7]), "patch 7")


def test_antithetic_draws_are_pairs_of_a_noise_and_its_negative_at_one_timestep():
    drawn = DrawPlan(0, 16, antithetic=True).draws(["a", "b"], (4, 3, 3))
    assert torch.equal(drawn.u[:, ::2], drawn.u[:, 1::2])
    assert torch.equal(drawn.noise[:, ::2], -drawn.noise[:, 1::2])
    assert torch.equal((drawn.u[:, ::2] * 8).floor(), torch.arange(8.0).expand(2, 8))  # stratified
    assert not torch.equal(drawn.noise[0], drawn.noise[1])


def test_any_first_few_pairs_lie_evenly_in_the_schedule():
    plan = DrawPlan(0, 16, shared=True, antithetic=True)
    for count in (2, 4, 8):  # pairs
        first = plan.nested[: 2 * count]
        strata = {draw // 2 * count // 8 for draw in first}
        assert strata == set(range(count))
        assert {draw ^ 1 for draw in first} == set(first)  # whole pairs
    assert sorted(plan.nested) == list(range(16))
    assert sorted(DrawPlan(0, 12, antithetic=True).nested) == list(range(12))
    assert DrawPlan(0, 4).nested[0] == 3  # the noisiest


def test_an_odd_number_of_antithetic_draws_is_refused():
    with pytest.raises(InvalidRequest, match="even number"):
        DrawPlan(0, 5, antithetic=True)
    with pytest.raises(InvalidRequest, match="even number"):
        plan_for(METHOD, 5)


def test_a_part_of_an_antithetic_plan_has_the_draws_of_the_whole():
    plan = DrawPlan(3, 8, shared=True, antithetic=True)
    whole, part = plan.draws(["a"], (2,)), plan.part((1, 6)).draws(["a"], (2,))
    assert torch.equal(part.noise, whole.noise[:, [1, 6]])
    assert torch.equal(part.u, whole.u[:, [1, 6]])


def test_an_index_says_what_it_was_built_for_and_others_stay_as_they_were(attributor: Attributor):
    info = attributor.index.info
    assert (info.plan.antithetic, info.draw_count, info.method) == (True, 16, "steady")
    assert IndexInfo.parse("x", info.to_bytes()) == info
    before = replace(info, antithetic=False, method="forward_inf")
    assert b"antithetic" not in before.to_bytes()
    assert b"method" not in before.to_bytes()


def test_the_score_is_the_weighted_mean_of_errors_and_the_square_of_a_sizes_excess():
    errors, weights = torch.tensor([[1.0, 3.0, 2.0, 2.0], [0.0, 0.0, 4.0, 8.0]]), torch.tensor([2.0, 1.0])
    sizes = torch.tensor([[4.0, 6.0], [1.0, 1.0]])
    found = score(SteadyChanges(("a", "b"), torch.cat([errors, sizes], dim=1), weights, 2, paired=True))
    assert found.scores.tolist() == [2 * 2 + (5 - 2) ** 2, 3.0]
    torch.testing.assert_close(found.per_draw.mean(dim=1), found.scores)
    # z = (size − mean) / (deviation + 2 · mean deviation), of the sizes alone
    null = NullDistribution.of(("a", "b"), torch.tensor([[[0.0], [1.0]], [[2.0], [1.0]]]))
    z = (5 - 1) / (2**0.5 + 2 * 2**0.5 / 2)
    held = score(SteadyChanges(("a", "b"), torch.cat([errors, 2 * sizes], dim=1), weights, 2, paired=True), null)
    assert held.scores[0].item() == pytest.approx(4 + (z * 9 / 4 - 2) ** 2)


def test_standard_errors_and_ranges_are_of_pairs():
    """The two draws of a pair cancel, so that their spread says nothing of the mean's."""
    errors = torch.tensor([[0.0, 4.0, 1.0, 3.0], [1.0, 1.0, 5.0, 5.0]])
    found = score(SteadyChanges(("a", "b"), errors, None, 0, paired=True))
    assert found.scores.tolist() == [2.0, 3.0]
    torch.testing.assert_close(found.standard_errors, torch.tensor([0.0, (8.0 / 2) ** 0.5]))
    assert found.left_out is not None
    assert found.left_out.tolist() == [[2.0, 2.0], [5.0, 1.0]]
    assert rank_ranges(found).tolist() == [[1, 2], [1, 2]]
    alone = score(SteadyChanges(("a", "b"), errors, None, 0, paired=False))
    assert alone.standard_errors[0] > 0
    assert alone.left_out is not None
    assert alone.left_out.shape == (2, 4)


def test_an_image_with_the_first_draws_only_has_the_mean_of_these():
    errors = torch.tensor([[1.0, 3.0, 5.0, 7.0], [2.0, 4.0, float("nan"), float("nan")]])
    sizes = torch.tensor([[4.0], [float("nan")]])
    found = score(SteadyChanges(("a", "b"), torch.cat([errors, sizes], dim=1), None, 1))
    assert found.scores.tolist() == [4 + 4, 3.0]
    assert found.standard_errors.isfinite().all()
    torch.testing.assert_close(found.per_draw.nanmean(dim=1), found.scores)
    assert found.left_out is not None
    assert found.left_out[1].tolist() == [4.0, 2.0, 3.0, 3.0, 3.0]


def test_means_and_deviations_at_a_draw_are_of_what_was_measured_and_of_all_it_stands_for():
    values = torch.tensor([[1.0, 1.0], [3.0, 99.0], [5.0, 5.0]])
    measured = torch.tensor([[True, True], [True, False], [True, True]])
    about, deviations = standardised_at(values, measured, None)
    assert about[:, 0].tolist() == [-2.0, 0.0, 2.0]
    assert about[[0, 2], 1].tolist() == [-2.0, 2.0]
    assert about[1, 1].isnan()
    torch.testing.assert_close(deviations, torch.tensor([(8 / 3) ** 0.5, 2.0]))
    shares = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 3.0]])
    assert standardised_at(values, measured, shares)[0][0, 1].item() == -3.0


def test_rounds_are_nested_and_together_all_draws(attributor: Attributor, query: Query):
    state = attributor.prepare(query, METHOD)
    losses = [r.draws for r in state.rounds if r.quantity == "loss"]
    assert list(map(len, losses)) == [4, 4, 8]
    assert sorted(sum(losses, ())) == list(range(16))
    assert [r.draws for r in state.rounds if r.quantity == "size"] == [(12, 13, 14, 15)]
    plain = METHOD.changed(size_draws=0)
    assert "size" not in {r.quantity for r in attributor.prepare(query, plain).rounds}


def test_a_sweep_scores_by_the_formula(attributor: Attributor, query: Query):
    state = attributor.prepare(query, METHOD)
    whole = table(attributor, state, METHOD)
    base, sizes = attributor.index.base_losses, attributor.index.base_sizes[:, 12:]
    change = whole["loss"].sqrt() - base.sqrt()
    s = ((change - change.mean(dim=0)) / change.std(dim=0, correction=0)).clamp(min=0)
    moved = (whole["size"].sqrt() - sizes.sqrt()).mean(dim=1)
    z = ((moved - moved.mean()) / moved.std(correction=0)).clamp(min=0)
    alike = whole["likeness"][:, 0]
    w = (1 + ((alike - alike.mean()) / alike.std(correction=0)).clamp(min=0)) ** 1.5
    found = score(METHOD.changes(state, whole))
    torch.testing.assert_close(found.scores, w * s.mean(dim=1) + (z - 2).clamp(min=0).square(), rtol=1e-4, atol=1e-5)
    assert found.top(1)[0][0] == "07.png"


def test_its_gradient_alone_is_taken_at_the_querys_own_draws(attributor: Attributor, query: Query):
    """The step's length is set at the sweep's draws, at which its effect is measured."""
    plan, batch, model = attributor.index.info.plan, query.batch(), attributor.model
    state = attributor.prepare(query, METHOD)
    draws = plan.draws(batch.example_ids, batch.latents.shape[1:])
    (first, *_) = [r for r in state.rounds if r.quantity == "loss"]
    with torch.no_grad(), model.with_deltas(dict(first.deltas)):
        moved = float(model.loss(batch, draws).mean())
    with torch.no_grad():
        assert state.loss_before == pytest.approx(float(model.loss(batch, draws).mean()))
    assert state.loss_after == pytest.approx(moved, rel=1e-5)
    bare = attributor.prepare(query, METHOD.changed(own_draws=0))
    assert not torch.equal(next(iter(bare.rounds[1].deltas.values())), next(iter(first.deltas.values())))


def test_it_works_on_an_index_of_another_plan_and_other_methods_on_its_own(
    attributor: Attributor, source: Catalog, model: StableDiffusion, query: Query, tmp_path: Path
):
    assert attributor.attribute(query.picture, "patch 7", ForwardInf()).rank_of("07.png") <= 3
    plan = plan_for(ForwardInf(), fisher_images=4, fisher_draws=2)
    old = Attributor(model, build_index(model, source, tmp_path / "old", plan))
    found = old.attribute(query.picture, "patch 7", METHOD)
    assert found.top(1)[0][0] == "07.png"
    assert found.per_draw.shape[1] == 4 + 4


NULLS = 4
FEW = Effort(first=2, raced=7, raced_sample=4, similar=2, worded=2)


@pytest.fixture(scope="module")
def nulled(attributor: Attributor, source: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    """On a copy of the index, with sketches, the null of sizes and what verdicts need."""
    folder = tmp_path_factory.mktemp("index") / "nulled"
    shutil.copytree(attributor.index.folder, folder)
    bare = replace(attributor, index=Index.open(folder))
    nulls = HeldOut.of(bare.index, source, NULLS)
    return replace(bare, index=measure_size_null(bare, METHOD, nulls))


def linear(model: StableDiffusion, index: Index, deltas: Mapping[str, torch.Tensor], draws: tuple[int, ...]):
    """Ten times the change of √size under a tenth of a move: close to what a model that is linear would show."""
    batch = index.examples(index.visited)
    drawn = index.info.plan.part(draws).draws(batch.example_ids, batch.latents.shape[1:])

    def roots(factor: float) -> torch.Tensor:
        with torch.no_grad(), model.with_deltas({name: factor * delta for name, delta in deltas.items()}):
            return model.loss_and_size(batch, drawn)[1].double().sqrt().mean(dim=1)

    return 5 * (roots(0.1) - roots(-0.1))


def test_the_null_by_products_is_that_of_sweeps_where_sizes_are_linear(
    nulled: Attributor, source: Catalog, model: StableDiffusion
):
    null, index = nulled.index.null_changes, nulled.index
    assert isinstance(null, NullSizes)
    assert null.sizes.shape == (NULLS, COUNT)
    for row, query_id in zip(null.sizes, null.queries, strict=True):
        image = source.by_id[query_id]
        state = nulled.prepare(nulled.query(source.picture(image), image.caption), METHOD)
        move = next(r for r in state.rounds if r.quantity == "size")
        change = linear(model, index, move.deltas, move.draws)
        others = torch.tensor([i != query_id for i in index.visited])
        about = (change - change[others].mean()) / change[others].std(correction=0)
        expected = torch.where(others, about.clamp(min=0), 0.0).float()
        torch.testing.assert_close(row, expected, rtol=0.02, atol=0.02)


def test_a_null_picture_is_held_against_the_others_and_asked_as_a_query_is(nulled: Attributor, source: Catalog):
    null = nulled.index.null_changes
    assert isinstance(null, NullSizes)
    assert null.highest is not None
    assert null.unprompted is not None
    query_id = null.queries[1]
    image, others = source.by_id[query_id], null.without(query_id)
    assert len(others.queries) == NULLS - 1
    assert query_id not in others.queries
    index = nulled.index.part(i for i in nulled.index.catalog.by_id if i != query_id)
    asked = replace(nulled, index=index, held_against=others)
    *_, last = asked.follow(asked.query(source.picture(image), image.caption), METHOD)
    assert float(last.scores().scores.max()) == pytest.approx(float(null.highest[1]), rel=1e-3, abs=1e-4)
    assert torch.equal(nulled.null_scores(METHOD), null.highest)
    assert torch.equal(nulled.null_scores(METHOD, prompted=False), null.unprompted)


def test_sketches_come_with_the_null_and_are_those_made_alone(nulled: Attributor, attributor: Attributor, tmp_path):
    shutil.copytree(attributor.index.folder, tmp_path / "copy")
    alone = build_sketch(attributor.model, Index.open(tmp_path / "copy"), method=METHOD)
    assert nulled.index.sketches.info == alone.sketches.info
    rows = torch.arange(COUNT)
    vector = torch.randn(alone.sketches.info.dimensions, generator=torch.Generator().manual_seed(0))
    one, other = nulled.index.sketches.products(vector, rows), alone.sketches.products(vector, rows)
    torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2 * float(other.abs().max()))


def test_the_null_is_measured_once_and_resumes_where_it_was_cut_off(
    attributor: Attributor, nulled: Attributor, source: Catalog, counted: Counted, tmp_path: Path, monkeypatch
):
    nulls = HeldOut.of(nulled.index, source, NULLS)
    counted.latents = 0
    assert measure_size_null(nulled, METHOD, nulls) == nulled.index
    assert counted.latents == 0
    shutil.copytree(attributor.index.folder, tmp_path / "copy")
    bare = replace(attributor, index=Index.open(tmp_path / "copy"))

    def stop(stage: str, done: int, total: int) -> None:
        if (stage, done) == (ANSWERS, 2):
            raise StopRequested

    with pytest.raises(StopRequested):
        measure_size_null(bare, METHOD, nulls, stop)
    counted.latents = 0
    seen = []
    index = measure_size_null(
        replace(bare, index=Index.open(tmp_path / "copy")), METHOD, nulls, lambda *told: seen.append(told)
    )
    assert STEPS not in {stage for stage, *_ in seen}  # nor a gradient of an image
    torch.testing.assert_close(index.null_changes.highest, nulled.index.null_changes.highest)
    assert not (index.folder / MAKING).exists()
    index.manifest.verify()


def test_more_moves_than_memory_holds_take_more_walks_and_give_the_same(
    attributor: Attributor, nulled: Attributor, source: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(size_null, "MOVES", 1)
    shutil.copytree(attributor.index.folder, tmp_path / "copy")
    bare = replace(attributor, index=Index.open(tmp_path / "copy"))
    index = measure_size_null(bare, METHOD, HeldOut.of(bare.index, source, NULLS), verdicts=False)
    torch.testing.assert_close(index.null_changes.sizes, nulled.index.null_changes.sizes, rtol=1e-3, atol=1e-3)
    assert index.null_changes.highest is None
    assert replace(bare, index=index).null_scores(METHOD) is None


def test_a_null_that_is_not_whole_is_refused(nulled: Attributor, tmp_path: Path):
    shutil.copytree(nulled.index.folder, tmp_path / "copy")
    index = Index.open(tmp_path / "copy")
    replace(index.null_changes, sizes=index.null_changes.sizes[:, 1:]).write(index.folder)
    with pytest.raises(DamagedAsset, match="not whole"):
        _ = index.with_files(SETTINGS, SCORES).null_changes


def race_to(attributor: Attributor, query: Query, effort: Effort = FEW, paid: Paid | None = None):
    return list(attributor.follow(query, METHOD, effort, paid))


def test_a_race_measures_fewer_images_at_each_heat_and_the_sample_at_all(nulled: Attributor, query: Query):
    *_, last = race_to(nulled, query)
    race = last.shortlist
    assert isinstance(race, Race)
    assert last.stages == 3
    assert last.ended == RACED.format(first=2)
    assert list(map(len, race.heats)) == sorted(map(len, race.heats), reverse=True)
    assert all(set(race.sample) <= set(heat) for heat in race.heats)
    assert set(race.heats[1]) <= set(race.heats[0])
    assert set(race.heats[2]) <= set(race.heats[1])
    measured = {m.key: set() for m in last.results}
    for m in last.results:
        measured[m.key] |= set(m.example_ids)
    for heat, rounds in zip(race.heats, race.rounds, strict=True):
        assert all(measured[r.key] == set(heat) for r in rounds)
    assert set(last.scores().example_ids) == set(race.entrants)


def test_a_race_finds_the_first_of_a_complete_sweep(nulled: Attributor, query: Query):
    *_, last = race_to(nulled, query)
    *_, complete = nulled.follow(query, METHOD)
    found = last.scores()
    assert found.top(1)[0][0] == complete.scores().top(1)[0][0] == "07.png"
    assert found.top(1)[0][1] == pytest.approx(complete.scores().top(1)[0][1], rel=0.3)
    assert last.shortlist.overlooked(found, last.stages) >= 0


def test_what_is_behind_by_its_standard_errors_is_dropped_and_twice_the_first_are_kept():
    ids = tuple("abcdefgh")
    effort = Effort(first=1)
    race = Race(ids, (), ("h",), dict.fromkeys(ids, 0.0), {**dict.fromkeys(ids, 0.0), "g": 9.0}, torch.zeros(2), 100,
                effort, ((), (), ()), (ids,))  # fmt: skip
    scores = torch.tensor([10.0, 9.0, 8.0, 8.0, 1.0, 1.0, 1.0, 1.0])
    errors = torch.tensor([1.0, 0.1, 2.0, 1.0, 1.0, float("nan"), 0.1, 1.0])
    found = InfluenceScores(ids, scores, errors, scores[:, None])
    # a leads; g is foreseen as high; c is within 1.5 errors, b is not; of f nothing is known; h is sampled
    assert race.left(found) == ("a", "c", "f", "g", "h")
    assert replace(race, heats=(ids, ids)).left(found) == ("a", "b", "c", "f", "h")


def test_sampled_images_stand_for_the_others_in_every_heat(nulled: Attributor, query: Query):
    *_, last = race_to(nulled, query)
    shares = last.table.quantities["loss"].stands_for
    assert shares is not None
    assert shares.sum(dim=0).tolist() == pytest.approx([COUNT - HELD_OUT] * 16, rel=1e-3)
    heat = set(last.shortlist.heats[-1])
    assert all((share > 0).all() == (i in heat) for i, share in zip(last.table.example_ids, shares, strict=True))


def test_weighing_all_after_a_race_repeats_no_forward(nulled: Attributor, query: Query, counted: Counted):
    paid = Paid()
    race_to(nulled, query, paid=paid)
    counted.latents = 0
    *_, after = nulled.follow(query, METHOD, paid=paid)
    again = counted.latents
    counted.latents, paid = 0, Paid(paid.state)
    *_, whole = nulled.follow(query, METHOD, paid=paid)
    assert counted.latents == COUNT * (16 + 4)
    counted.latents = 0
    *_, raced = race_to(nulled, query, paid=paid)  # everything is known
    assert counted.latents == 0
    heats, rounds = raced.shortlist.heats, raced.shortlist.rounds
    spent = sum(len(heat) * sum(len(r.draws) for r in of) for heat, of in zip(heats, rounds, strict=True))
    assert again == COUNT * (16 + 4) - spent
    torch.testing.assert_close(after.scores().scores, whole.scores().scores, rtol=1e-3, atol=1e-3)


def test_a_race_that_was_stopped_goes_on_from_the_journal(nulled: Attributor, query: Query, counted: Counted, tmp_path):
    journalled = replace(nulled, journal=tmp_path)
    paid = Paid()
    for progress in journalled.follow(query, METHOD, FEW, paid):
        if progress.stages == 1:
            break
    counted.latents = 0
    *_, resumed = journalled.follow(query, METHOD, FEW, Paid(paid.state))
    rest, counted.latents = counted.latents, 0
    *_, whole = nulled.follow(query, METHOD, FEW, Paid(paid.state))
    assert rest == counted.latents - 4 * len(whole.shortlist.entrants)
    assert torch.equal(resumed.scores().scores, whole.scores().scores)


def test_a_time_limit_ends_a_race_after_a_heat(nulled: Attributor, query: Query):
    *_, last = race_to(nulled, query, replace(FEW, seconds=1e-9))
    assert last.ended == OUT_OF_TIME
    assert last.stages == 1
    answer = answer_of(nulled, query, METHOD, last)
    assert answer.weighed.images == len(last.shortlist.entrants)
    first, *_ = record_of(answer, nulled.index, 3).results
    assert len(first.per_draw) == 4
    assert first.size_draws == 0


def test_a_record_of_a_race_has_the_draws_that_each_image_was_measured_at(nulled: Attributor, query: Query):
    *_, last = race_to(nulled, query)
    record = record_of(answer_of(nulled, query, METHOD, last), nulled.index, 100)
    assert {(len(match.per_draw), match.size_draws) for match in record.results} <= {(4, 0), (12, 4), (20, 4)}
    first = record.results[0]
    assert len(first.per_draw) == 20
    assert sum(first.per_draw) / 20 == pytest.approx(first.score, rel=1e-4)
    assert read_record(record.to_json()) == record


def test_questions_are_answered_by_the_method_that_the_index_is_for(attributor: Attributor):
    assert attributor.default_method == Steady()
    with pytest.raises(InvalidRequest, match="forward_inf, steady"):
        method_for("dtrak")


@pytest.fixture
def few_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "FEWEST_FOR_VERDICT", 2)


def test_copies_in_disguise_are_asked_about_once(
    nulled: Attributor, source: Catalog, tmp_path: Path, few_suffice, monkeypatch
):
    study, journal = Disguised(images=1, prompt="caption"), Journal(tmp_path / "disguised.jsonl")
    trials = disguised.run(study, nulled, METHOD, source, journal, FEW)
    assert [t["disguise"] for t in trials] == list(DISGUISES)
    (image,) = study.chosen(source)
    assert {t["query"] for t in trials} == {image.id}
    assert image.split == "train"
    query = nulled.query(mirrored(to_square(source.picture(image), 16)), image.caption)
    *_, last = nulled.follow(query, METHOD, FEW)
    weighed = image.id in last.scores().example_ids
    assert trials[0]["rank"] == (last.scores().rank_of(image.id) if weighed else COUNT - HELD_OUT)
    monkeypatch.setattr(Attributor, "follow", lambda *_: pytest.fail("asked again"))
    assert disguised.run(study, nulled, METHOD, source, journal, FEW) == trials
    report = disguised.as_report(study, trials)
    assert report["rows"][-1] | {"disguise": "all", "queries": 6} == report["rows"][-1]
    assert "not decided yet" in disguised.as_table(report)
    with pytest.raises(InvalidRequest, match="caption or none"):
        Disguised(prompt="both")


def test_calibration_asks_as_answers_are_given(nulled: Attributor, tmp_path: Path, few_suffice):
    journal = Journal(tmp_path / "calibration.jsonl")
    (trial,) = calibration.run(Calibration(1, 0), nulled, METHOD, journal, effort=FEW)
    assert trial["settings"]["weighed"]["raced"] == FEW.raced
    assert trial["held_out_called"] == 0.0  # none is weighed
    (whole,) = calibration.run(Calibration(1, 0), nulled, METHOD, journal)
    assert "weighed" not in whole["settings"]
    assert len(list(journal.trials())) == 2


def test_trials_go_on_with_an_index_that_was_built_again_elsewhere(nulled: Attributor):
    """Its figures differ in their last digits."""
    null = nulled.index.null_changes
    again = replace(nulled, held_against=replace(null, sizes=null.sizes * 1.0001))
    assert settings_on(again, METHOD) == settings_on(nulled, METHOD)
    fewer = replace(nulled, held_against=null.without(null.queries[0]))
    assert settings_on(fewer, METHOD) != settings_on(nulled, METHOD)


def test_the_evidence_is_one_command_of_parts_that_resume(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked = []
    names = (
        "index_build",
        "calibration",
        "disguised",
        "lds",
        "steadiness",
        "customisation",
        "leave_k_out",
        "self_retrieval",
    )
    for name in names:
        signature = inspect.signature(getattr(evidence, name))

        def called(*args: object, name: str = name, signature: inspect.Signature = signature, **given: object) -> None:
            asked.append((name, signature.bind(*args, **given).arguments))  # TypeError for what it does not take

        monkeypatch.setattr(evidence, name, called)
    for run in evidence._runs("steady", tmp_path / "kept", tmp_path / "work"):
        run()
    assert [name for name, _ in asked] == list(names)
    given = dict(asked)
    assert given["index_build"]["out"] == given["calibration"]["index"] == tmp_path / "work" / "index-steady"
    assert all(given[name]["journal"] == tmp_path / "kept" for name in ("calibration", "disguised", "self_retrieval"))
    assert given["lds"]["scores"] == given["steadiness"]["scores"] == tmp_path / "kept" / "scores"
    with pytest.raises(InvalidRequest, match="study all"):
        evidence._required("forward_inf")


def test_the_estimate_counts_what_an_answer_and_an_index_take(nulled: Attributor, query: Query, counted: Counted):
    counts = Counts(METHOD, COUNT)
    counted.latents = 0
    *_, _last = nulled.follow(query, METHOD)
    assert counted.latents == pytest.approx(counts.complete, rel=0.3)  # a backward counts twice there, and not here
    assert counts.answer(FEW) < counts.complete
    assert counts.index(29, verdicts=False) < counts.index(29, verdicts=True)
    lines = list(as_lines([Part("a", 2, 7200, "shipped"), Part("b", 1, 0, "lab", 3600)], {"shipped": 2.0, "lab": 1.0}))
    assert [line.split()[-1] for line in lines[1:4]] == ["1.0", "1.0", "2.0"]
