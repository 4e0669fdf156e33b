"""Models that were taught a few pictures, and whether a method finds these from what the models generated."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from conftest import ASSETS, measured
from forwardinf.attribution.attributor import Attributor
from forwardinf.cli.main import app
from forwardinf.draws import DrawPlan
from forwardinf.errors import DamagedAsset, IndexMismatch, InvalidRequest, MissingAsset
from forwardinf.examples.catalog import Catalog
from forwardinf.files import manifest
from forwardinf.methods.registry import load_method
from forwardinf.models.sd import StableDiffusion, load
from forwardinf.scoring.score import Changes, score
from forwardinf.studies import customisation as room
from forwardinf.studies.custom_cases import CustomCases, make
from forwardinf.studies.custom_plan import CustomPlan
from forwardinf.studies.customisation import Customisation, average_precision, best_recall, recall
from forwardinf.studies.intervals import mean_interval
from forwardinf.studies.journal import Journal
from forwardinf.studies.procedural import KINDS as RULES
from forwardinf.training.customise import CustomRecipe, customise, load_customised
from forwardinf.training.lab import LabImages
from forwardinf.types import InfluenceScores, LatentBatch, ModelSpec

SHIPPED = ASSETS / "emoji-diffusion"
BRIEF = CustomRecipe(steps=3, batch=4, exemplars=3)
TUNABLE = ModelSpec.tunable
METHOD = load_method("similarity")


@pytest.fixture(scope="module")
def artwork() -> Catalog:
    return Catalog.load(ASSETS / "emoji")


@pytest.fixture(scope="module")
def plan(artwork: Catalog) -> CustomPlan:
    return CustomPlan.of(artwork, BRIEF)


@pytest.fixture(scope="module")
def small_plan(plan: CustomPlan) -> CustomPlan:
    """The cases 1 and 4 under new numbers, procedural and artwork, of both parts, and a few candidates."""
    first, second = plan.cases[1], plan.cases[4]
    cases = replace(first, number=0), replace(second, number=1, part="reported")
    return replace(plan, candidates=plan.candidates[:6], companions=plan.companions[:4], cases=cases, pictures=2)


@pytest.fixture(scope="module")
def cases(artwork: Catalog, small_plan: CustomPlan, tmp_path_factory: pytest.TempPathFactory) -> CustomCases:
    return make(tmp_path_factory.mktemp("customisation") / "cases", artwork, SHIPPED, small_plan, until=2)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps the cases' indexes, of one draw, for all tests."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def shipped() -> StableDiffusion:
    return load(ModelSpec(str(SHIPPED)))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_exemplars_were_never_trained_on_and_nothing_else_is_taught(artwork: Catalog, plan: CustomPlan):
    exemplars = [exemplar for case in plan.cases for exemplar in case.exemplars]
    ids = {exemplar.id for exemplar in exemplars}
    assert len(ids) == len(exemplars) == 180
    assert {artwork.by_id[e.id].split for e in exemplars if e.view is None} == {"reserve"}
    assert not ids & artwork.of_split("train").by_id.keys()
    assert not ids & {*plan.candidates, *plan.companions}
    known = {image.caption for image in artwork.images if image.split in ("train", "held_out")}
    assert not known & {case.caption for case in plan.cases}
    assert len(set(plan.candidates)) == 1000
    assert not set(plan.candidates) & set(plan.companions)
    assert {artwork.by_id[i].split for i in (*plan.candidates, *plan.companions)} == {"train"}
    assert CustomPlan.of(artwork, BRIEF) == plan


def test_exemplars_of_a_case_belong_together_and_their_captions_are_read_to_the_end(
    artwork: Catalog, plan: CustomPlan, shipped: StableDiffusion
):
    for case in plan.cases:
        if case.kind == "artwork":
            rows = [artwork.by_id[exemplar.id] for exemplar in case.exemplars]
            assert {f"{row.collection} {row.subgroup}" for row in rows} == {case.group}
        else:
            assert case.group in RULES
        assert not shipped.unread_text(case.caption)


@pytest.mark.parametrize("count", [20, 24, 40, 60])
def test_the_two_parts_are_disjoint_and_alike(plan: CustomPlan, count: int):
    chosen, reported = ([case for case in plan.cases[:count] if case.part == part] for part in ("choosing", "reported"))
    assert not {e.id for case in chosen for e in case.exemplars} & {e.id for case in reported for e in case.exemplars}
    make_up = [Counter((case.kind, len(case.exemplars)) for case in part) for part in (chosen, reported)]
    assert make_up[0] == make_up[1]
    assert set(make_up[0]) == {(kind, n) for kind in ("artwork", "procedural") for n in range(1, 6)}
    subgroups = [case.group.split(" ", 1)[1] for case in plan.cases if case.kind == "artwork"]
    assert len(set(subgroups)) == len(subgroups) == 30


def test_fine_tuning_teaches_the_exemplars_more_than_others_and_each_seed_differs(
    cases: CustomCases, artwork: Catalog, shipped: StableDiffusion
):
    others = Catalog(artwork.folder, tuple(artwork.by_id[i] for i in cases.plan.companions))
    own, companions = LabImages.of(shipped, cases.exemplars(cases.plan.cases[1])), LabImages.of(shipped, others)
    recipe = replace(BRIEF, steps=20)
    kept = customise(SHIPPED, recipe, own, companions, seed=1)
    assert all(tensor.dtype == torch.float16 and 8 in tensor.shape for tensor in kept.values())
    taught = load_customised(SHIPPED, kept, TUNABLE)
    assert taught.fit.rule == "pad"  # as it was taught, and as the index's key says by saying nothing
    falls = []
    for images, rows in ((own, cases.exemplars(cases.plan.cases[1])), (companions, others)):
        captions = shipped.encode_prompt([row.caption for row in rows.images])
        batch, draws = LatentBatch(images.ids, images.latents, captions), DrawPlan(0, 4, shared=True)
        falls.append(1 - float(measured(taught, batch, draws).mean() / measured(shipped, batch, draws).mean()))
    assert falls[0] > 0.05 > falls[1]
    one, other = (customise(SHIPPED, replace(recipe, steps=2), own, companions, seed) for seed in (1, 2))
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_a_making_that_was_cut_off_goes_on_to_the_same_files(
    cases: CustomCases, artwork: Catalog, small_plan: CustomPlan, tmp_path: Path
):
    folder = tmp_path / "cases"
    shutil.copytree(cases.folder, folder)
    for name in ("case-01/case.json", "case-01/weights.safetensors", "case-01/picture-1.png", "manifest.json"):
        (folder / name).unlink()
    kept = (folder / "case-00" / "weights.safetensors").stat().st_mtime_ns
    assert make(folder, artwork, SHIPPED, small_plan, until=1).made(small_plan.cases[1]) is False
    make(folder, artwork, SHIPPED, small_plan, until=2)
    assert files_of(folder) == files_of(cases.folder)
    assert (folder / "case-00" / "weights.safetensors").stat().st_mtime_ns == kept
    with pytest.raises(InvalidRequest, match="another plan"):
        make(folder, artwork, SHIPPED, replace(small_plan, pictures=3), until=1)


def test_a_kept_case_has_the_same_losses_after_a_reload(
    cases: CustomCases, artwork: Catalog, shipped: StableDiffusion, work: Path, tmp_path: Path
):
    case = cases.plan.cases[0]
    first = room.attributor_of(cases, case, TUNABLE, work, 1, METHOD)
    again = CustomCases.open(cases.folder, artwork, SHIPPED)
    second = room.attributor_of(again, again.plan.cases[0], TUNABLE, tmp_path, 1, METHOD)
    assert torch.equal(first.index.base_losses, second.index.base_losses)
    batch = next(first.index.shards()).batch
    assert not torch.equal(measured(shipped, batch, first.index.info.plan), first.index.base_losses)
    torch.testing.assert_close(measured(first.model, batch, first.index.info.plan), first.index.base_losses)


def test_what_is_not_as_it_was_made_is_refused(cases: CustomCases, artwork: Catalog, tmp_path: Path):
    folder = tmp_path / "cases"
    shutil.copytree(cases.folder, folder)
    weights = load_file(folder / "case-00" / "weights.safetensors")
    save_file({name: 2 * tensor for name, tensor in weights.items()}, folder / "case-00" / "weights.safetensors")
    with pytest.raises(DamagedAsset, match=r"case-00/weights\.safetensors"):
        CustomCases.open(folder, artwork, SHIPPED)
    manifest.write_manifest(folder)
    with pytest.raises(IndexMismatch, match="another model"):
        CustomCases.open(folder, artwork, SHIPPED).model(cases.plan.cases[0], TUNABLE)
    with pytest.raises(MissingAsset, match="study cases"):
        CustomCases.open(tmp_path, artwork, SHIPPED)


def test_the_candidates_are_all_training_images_with_the_exemplars_among_them(cases: CustomCases, work: Path):
    for case in cases.plan.cases:
        images, exemplars = cases.images(case), {exemplar.id for exemplar in case.exemplars}
        assert {image.id for image in images.images} == exemplars | set(cases.plan.candidates)
        assert [image.id for image in images.images] == sorted(image.id for image in images.images)
        index = room.attributor_of(cases, case, TUNABLE, work, 1, METHOD).index
        assert index.trained == set(images.by_id)
    rule_made = cases.exemplars(cases.plan.cases[0])
    assert Image.open(rule_made.path_of(rule_made.images[0])).size == (64, 64)


def test_the_reference_of_a_case_are_pictures_that_no_model_has_seen(
    cases: CustomCases, artwork: Catalog, tmp_path: Path
):
    method = load_method("similarity", space="latents")
    case = cases.plan.cases[0]
    asked = room.attributor_of(cases, case, TUNABLE, tmp_path, 1, method, null_pictures=3)
    queries = asked.index.null_changes.queries
    assert {artwork.by_id[query].split for query in queries} == {"held_out"}
    assert asked.null(method) is not None
    assert room.attributor_of(cases, case, TUNABLE, tmp_path, 1, method).null(method) is None


def test_recall_and_average_precision_are_those_worked_out_by_hand():
    assert [recall([1, 7, 30], k) for k in (1, 5, 10)] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert [best_recall(3, k) for k in (1, 5)] == pytest.approx([1 / 3, 1])
    assert average_precision([30, 1, 7]) == pytest.approx((1 / 1 + 2 / 7 + 3 / 30) / 3)
    assert average_precision([2, 1, 3]) == 1
    assert average_precision([4]) == 0.25


def test_an_interval_holds_the_true_mean_as_often_as_it_says_also_of_eight_values():
    asked = np.random.default_rng(1).normal(3, 2, (2000, 8))
    within = [low <= 3 <= high for low, high in map(mean_interval, asked)]
    assert 0.94 < np.mean(within) < 0.96
    assert mean_interval([0.0, 1.0, 2.0]) == pytest.approx((1 - 4.3027 / 3**0.5, 1 + 4.3027 / 3**0.5), abs=1e-4)
    assert mean_interval(np.ones(5)) == (1, 1)


def scoring(ranks: dict[str, int]) -> object:
    """Scores that give these examples these ranks."""

    def attribute(self: Attributor, *_: object) -> InfluenceScores:
        ids = tuple(image.id for image in self.index.catalog.images)
        order = sorted(set(ids) - ranks.keys())
        for example_id, rank in sorted(ranks.items(), key=lambda pair: pair[1]):
            if example_id in ids:
                order.insert(rank - 1, example_id)
        scores = torch.tensor([-float(order.index(example_id)) for example_id in ids])
        return score(Changes(ids, scores[:, None]))

    return attribute


def test_a_study_reports_the_exemplars_ranks_and_goes_on_where_it_was_cut_off(
    cases: CustomCases, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one, two = (case.exemplars for case in cases.plan.cases)
    assert (len(one), len(two)) == (1, 2)
    opened = {case: room.attributor_of(cases, case, TUNABLE, work, 1, METHOD) for case in cases.plan.cases}
    monkeypatch.setattr(room, "attributor_of", lambda cases, case, *_: opened[case])
    monkeypatch.setattr(Attributor, "attribute", scoring({one[0].id: 2, two[0].id: 1, two[1].id: 6}))
    method, journal = load_method("random"), Journal(tmp_path / "trials.jsonl")
    study = Customisation(cases=2, pictures=1, draws=1)
    trials = room.run(study, cases, TUNABLE, method, journal, work)
    assert [trial["ranks"] for trial in trials] == [[2], [1, 6]]
    groups = room.as_report(study, cases, TUNABLE, method, trials)["groups"]
    assert [(row["part"], row["kind"], row["cases"]) for row in groups] == [
        ("choosing", "procedural", 1), ("choosing", "all", 1), ("reported", "artwork", 1), ("reported", "all", 1),
    ]  # fmt: skip
    assert [row["map"]["mean"] for row in groups] == pytest.approx([1 / 2, 1 / 2, 2 / 3, 2 / 3])
    assert [row["recall"]["1"]["mean"] for row in groups] == pytest.approx([0, 0, 1 / 2, 1 / 2])
    assert [row["recall"]["10"]["mean"] for row in groups] == [1, 1, 1, 1]

    def refuse(*_: object) -> None:
        raise InvalidRequest("no step")

    monkeypatch.setattr(Attributor, "attribute", refuse)
    more = room.run(replace(study, pictures=2), cases, TUNABLE, method, journal, work)
    assert [(trial["ranks"], trial["failed"]) for trial in more] == [
        ([2], None), ([7], "no step"), ([1, 6], None), ([8, 8], "no step"),
    ]  # fmt: skip
    other = room.run(study, cases, TUNABLE, load_method("random", seed=1), journal, work)
    assert [trial["failed"] for trial in other] == ["no step", "no step"]


def test_a_study_runs_from_the_command_line_and_only_on_the_part_asked_for(cases: CustomCases, tmp_path: Path):
    arguments = ["study", "customisation", "--folder", str(cases.folder), "--cases", "2"]
    arguments += ["--work", str(tmp_path), "--journal", str(tmp_path)]
    arguments += ["--pictures", "1", "--draws", "1", "--part", "reported", "--null-pictures", "1"]
    done = CliRunner().invoke(app, [*arguments, "--json", "-o", str(tmp_path / "report.json")])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert [(row["part"], row["kind"], row["cases"]) for row in report["groups"]] == [
        ("reported", "artwork", 1), ("reported", "all", 1),
    ]  # fmt: skip
    assert 0 < report["groups"][0]["map"]["mean"] <= 1
    shown = CliRunner().invoke(app, arguments)
    assert "reported  artwork        1" in shown.stdout
    assert "Method: forward_inf" in shown.stdout


def test_a_study_that_cannot_be_asked_is_refused(cases: CustomCases, tmp_path: Path):
    with pytest.raises(InvalidRequest, match="choosing, reported, all"):
        Customisation(part="both")
    with pytest.raises(InvalidRequest, match="only 2 cases with 2 pictures"):
        Customisation(cases=3).chosen(cases)
    with pytest.raises(InvalidRequest, match="ask for more cases"):
        Customisation(part="reported", cases=1).chosen(cases)
    missing = replace(cases, folder=tmp_path)
    with pytest.raises(MissingAsset, match="Case 0"):
        missing.fingerprint_of(cases.plan.cases[0])
