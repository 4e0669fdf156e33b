"""Studies on a tiny model: what they ask, that they go on where they stopped, and what they report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.errors import InvalidRequest
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models.sd import StableDiffusion
from forwardinf.studies import self_retrieval
from forwardinf.studies.degraded import VARIANTS
from forwardinf.studies.intervals import clustered_interval, wilson_interval
from forwardinf.studies.journal import Journal, Trial
from forwardinf.studies.self_retrieval import SelfRetrieval
from forwardinf.types import ModelSpec

METHOD = ForwardInf()
STUDY = SelfRetrieval(queries=3, candidates=5, variants=("clean", "resized"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"), 8)


@pytest.fixture(scope="module")
def attributor(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    model = StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="attention"))
    plan = BuildPlan(draws=2, fisher_images=4, fisher_draws=1)
    return Attributor(model, build_index(model, training_images(folder), tmp_path_factory.mktemp("i") / "index", plan))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "studies" / "self_retrieval.jsonl")


def trials_of(attributor: Attributor, journal: Journal, study: SelfRetrieval = STUDY, **more: object) -> list[Trial]:
    pictures = attributor.index.thumbnails  # which are as good as the pictures they were made of
    return self_retrieval.run(study, attributor, METHOD, pictures, journal, **more)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (0, 0, 0, 1)],
)
def test_wilson_intervals_are_those_of_the_literature(hits: int, count: int, low: float, high: float):
    # 81 of 263: Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    assert wilson_interval(hits, count) == pytest.approx((low, high), abs=5e-5)


def test_an_interval_over_clusters_is_wider_where_these_differ():
    counts = {"a": 50, "b": 50, "c": 50, "d": 50}
    independent = wilson_interval(20, 200)
    assert clustered_interval({"a": 5, "b": 5, "c": 5, "d": 5}, counts) == independent
    low, high = clustered_interval({"a": 20}, counts)  # all from one source: as if few were asked
    # The share 0.1 has the variance (15² + 3·5²)·4/3 / 200² = 0.01 between clusters, that of nine independent ones.
    assert (low, high) == pytest.approx(wilson_interval(0.9, 9))
    assert high - low > 2 * (independent[1] - independent[0])
    assert clustered_interval({}, counts) == wilson_interval(0, 200)
    assert clustered_interval({"a": 3}, {"a": 9}) == wilson_interval(3, 9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_the_same_every_time_and_near_its_original(folder: Path, variant: str):
    picture = Image.open(folder / "00.png")
    once, twice = (np.asarray(VARIANTS[variant](picture)).astype(int) for _ in range(2))
    assert once.shape == (32, 32, 3)
    assert np.array_equal(once, twice)
    moved = np.abs(once - np.asarray(picture)).mean()
    assert (moved == 0) == (variant == "clean")
    assert moved < 25


def test_degraded_copies_are_made_in_turn_and_told_together_and_apart(attributor: Attributor, journal: Journal):
    asked = replace(STUDY, queries=4, variants=("clean", "degraded"))
    copies = asked.copies(attributor.index)
    assert [variant for _, variant in copies if variant != "clean"] == ["jpeg", "resized", "cropped", "jpeg"]
    assert (
        {query for query, _ in copies[::2]}
        == {query for query, _ in copies[1::2]}
        == set(asked.chosen(attributor.index))
    )
    trials = trials_of(attributor, journal, asked)
    report = self_retrieval.as_report(asked, asked.settings(attributor, METHOD), trials)
    counted = {row["variant"]: row["queries"] for row in report["variants"]}
    assert counted == {"clean": 4, "degraded": 4, "jpeg": 2, "resized": 1, "cropped": 1}
    apart = trials_of(attributor, journal, replace(asked, variants=("jpeg",)))
    assert [apart[0], apart[3]] == [trial for trial in trials if trial["variant"] == "jpeg"]


def test_candidates_are_the_querys_own_image_and_the_same_others(attributor: Attributor):
    index = attributor.index
    queries = STUDY.chosen(index)
    among = {query: STUDY.candidates_of(query, index) for query in queries}
    assert all(query in ids and len(set(ids)) == 5 for query, ids in among.items())
    assert len(set.intersection(*map(set, among.values()))) >= 2
    assert replace(STUDY, queries=5).chosen(index)[:3] == queries
    assert len(replace(STUDY, candidates=0).candidates_of(queries[0], index)) == 8
    assert STUDY.ranked_among(index) == 5


def test_held_out_images_are_neither_queries_nor_candidates(attributor: Attributor):
    images = attributor.index.catalog.images
    catalog = Catalog(attributor.index.folder, (replace(images[0], split="held_out"), *images[1:]))
    index = replace(attributor.index, catalog=catalog)
    everything = SelfRetrieval(queries=100)
    assert images[0].id not in everything.chosen(index)
    assert images[0].id not in everything.candidates_of(images[1].id, index)
    assert everything.ranked_among(index) == 7


def test_an_interrupted_study_goes_on_and_finds_the_same(
    attributor: Attributor, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(done: int, total: int) -> None:
        assert total == 6
        if done == 4:
            raise KeyboardInterrupt

    whole = trials_of(attributor, Journal(tmp_path / "other.jsonl"))
    with pytest.raises(KeyboardInterrupt):
        trials_of(attributor, journal, on_progress=stop)
    assert len(list(journal.trials())) == 4
    assert trials_of(attributor, journal) == whole
    assert len(list(journal.trials())) == 6
    monkeypatch.setattr(Attributor, "attribute", lambda *_: pytest.fail("a finished trial was made again"))
    assert trials_of(attributor, journal) == whole


def test_trials_of_other_settings_are_not_taken_for_these(attributor: Attributor, journal: Journal):
    trials_of(attributor, journal)
    trials_of(attributor, journal, replace(STUDY, prompt="none", queries=1))
    settings = [trial["settings"]["prompt"] for trial in journal.trials()]
    assert (settings.count("caption"), settings.count("none")) == (6, 2)


def test_a_query_on_which_no_step_can_be_taken_ranks_last(
    attributor: Attributor, journal: Journal, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise InvalidRequest("No step moved this query's loss.")

    monkeypatch.setattr(ForwardInf, "prepare", refuse)
    trials = trials_of(attributor, journal)
    assert {trial["rank"] for trial in trials} == {5}
    report = self_retrieval.as_report(STUDY, STUDY.settings(attributor, METHOD), trials)
    assert "no step possible on 3" in self_retrieval.as_table(report)


def test_a_report_has_shares_intervals_and_goals_and_says_how_many_were_ranked(attributor: Attributor):
    ranks = {"clean": [1] * 198 + [2] * 2, "resized": [1, 20] * 20 + [10] * 160}
    trials = [{"variant": v, "rank": rank, "failed": None} for v, all_ranks in ranks.items() for rank in all_ranks]
    asked = replace(STUDY, queries=200, candidates=0)
    report = json.loads(json.dumps(self_retrieval.as_report(asked, asked.settings(attributor, METHOD), trials)))
    clean, resized = report["variants"]
    assert (clean["rank_1"], clean["top_10"], clean["median_rank"], clean["goal_met"]) == (0.99, 1.0, 1, True)
    assert clean["rank_1_interval"] == list(wilson_interval(198, 200))
    assert (resized["rank_1"], resized["top_10"], resized["median_rank"], resized["goal_met"]) == (0.1, 0.9, 10, True)
    table = self_retrieval.as_table(report)
    assert "among all 8 indexed training images" in table
    assert "rank 1 ≥ 99%: met" in table
    assert "Prompt: the image's caption" in table
    assert "open" not in table


def test_kinds_of_copies_made_in_turn_have_no_goal_of_their_own(attributor: Attributor):
    trials = [
        {"variant": v, "rank": 1, "failed": None}
        for v, n in (("jpeg", 67), ("resized", 67), ("cropped", 66))
        for _ in range(n)
    ]
    asked = SelfRetrieval(queries=200, candidates=0, variants=("degraded",))
    report = self_retrieval.as_report(asked, asked.settings(attributor, METHOD), trials)
    assert [(row["variant"], row["goal_met"]) for row in report["variants"]] == [
        ("degraded", True), ("jpeg", None), ("resized", None), ("cropped", None)
    ]  # fmt: skip
    assert "open" not in self_retrieval.as_table(report)


@pytest.mark.parametrize("fewer", [{"queries": 199, "candidates": 0}, {"queries": 200, "candidates": 5}])
def test_a_goal_stays_open_where_less_was_asked_than_it_is_set_for(attributor: Attributor, fewer: dict):
    asked = replace(STUDY, variants=("clean",), prompt="none", **fewer)
    trials = [{"variant": "clean", "rank": 1, "failed": None}] * fewer["queries"]
    report = self_retrieval.as_report(asked, asked.settings(attributor, METHOD), trials)
    assert report["variants"][0]["goal_met"] is None
    table = self_retrieval.as_table(report)
    assert "rank 1 ≥ 99%: open" in table
    assert ("5 of 8 indexed training images" in table) == (fewer["candidates"] == 5)
    assert "Prompt: none" in table


def test_pictures_come_from_whole_thumbnails_or_a_named_folder(attributor: Attributor, folder: Path, tmp_path: Path):
    index = attributor.index
    assert self_retrieval.pictures_of(index, None).folder == index.folder
    assert self_retrieval.pictures_of(index, folder).folder == folder
    large = Catalog(index.folder, tuple(replace(image, width=512) for image in index.catalog.images))
    with pytest.raises(InvalidRequest, match="128 px"):
        self_retrieval.pictures_of(replace(index, catalog=large), None)
    with pytest.raises(InvalidRequest, match=r"07\.png"):
        self_retrieval.pictures_of(index, write_patches(tmp_path, 7))


@pytest.mark.parametrize(
    "wrong",
    [
        {"variants": ("blurred",)},
        {"variants": ()},
        {"variants": ("degraded", "jpeg")},
        {"prompt": "all"},
        {"queries": 0},
    ],
)
def test_a_study_that_cannot_be_asked_is_refused(wrong: dict):
    with pytest.raises(InvalidRequest):
        SelfRetrieval(**wrong)
