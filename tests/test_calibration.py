"""What is said of how sure an answer is: it holds when nothing is there to find, and finds what is."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import tiny_pipeline, write_patches
from forwardinf import manifest
from forwardinf.attribution import Attributor
from forwardinf.calibration import RATE, p_values, rank_ranges, ranked_groups
from forwardinf.errors import DamagedAsset, InvalidRequest
from forwardinf.index.build import BuildPlan, build_index, training_images
from forwardinf.index.reference import SCORES, SETTINGS
from forwardinf.index.store import Index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models.stable_diffusion import StableDiffusion
from forwardinf.reference import build_reference
from forwardinf.studies import calibration as room
from forwardinf.studies.calibration import Calibration
from forwardinf.studies.journal import Journal
from forwardinf.studies.unrelated import unrelated
from forwardinf.types import ModelSpec

METHOD = ForwardInf()


def test_p_values_count_the_reference_that_reaches_as_high():
    found = p_values(torch.tensor([5.0, 3.0, 2.9, 0.0]), torch.tensor([1.0, 3.0, 4.0]))
    assert found.tolist() == [1 / 4, 3 / 4, 3 / 4, 4 / 4]


def test_where_nothing_is_to_be_found_an_answer_has_a_false_call_as_often_as_promised():
    random = torch.Generator().manual_seed(0)
    images, reference, answers = 300, 39, 2000
    heavy = torch.randn(answers, images, generator=random) ** 3  # a heavy tail, which no normal theory would cover
    called = 0
    for answer in heavy:
        highest = (torch.randn(reference, images, generator=random) ** 3).max(dim=1).values
        called += bool((p_values(answer, highest) <= RATE).any())
    assert 0.08 < called / answers < 0.12


def test_what_stands_out_is_called_and_the_rest_is_not():
    random = torch.Generator().manual_seed(1)
    highest = torch.randn(40, 500, generator=random).max(dim=1).values
    scores = torch.randn(500, generator=random)
    scores[[7, 9]] = 12.0
    assert (p_values(scores, highest) <= RATE).nonzero().flatten().tolist() == [7, 9]


def test_ranks_range_over_what_they_are_without_each_draw():
    per_draw = torch.tensor([[9.0, 9.0, 9.0], [8.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    # Without the first draw the second image falls behind the third; else it is ahead of it or level.
    assert rank_ranges(per_draw).tolist() == [[1, 1], [2, 3], [2, 3]]
    assert rank_ranges(torch.tensor([[1.0], [2.0]])).tolist() == [[2, 2], [1, 1]]


def test_a_groups_p_value_is_that_of_all_permutations():
    scores, names = torch.tensor([9.0, 8.0, 5.0, 3.0, 2.0, 1.0]), ["a", "a", "b", "a", "b", "b"]
    found = {group.name: group for group in ranked_groups(scores, names)}
    ranks = [1, 2, 4]
    at_least = sum(sum(other) <= sum(ranks) for other in itertools.combinations(range(1, 7), 3))
    exact = at_least / 20
    assert found["a"].mean_rank == pytest.approx(7 / 3)
    assert found["a"].images == 3
    assert found["a"].p_value == pytest.approx(2 * exact)  # two groups were tested
    assert found["b"].p_value == pytest.approx(19 / 20)  # all but one of twenty rank as high


def test_groups_drawn_at_random_are_seldom_called_however_many_there_are():
    random = np.random.default_rng(0)
    called = 0
    for _ in range(300):
        names = [f"creator {n}" for n in random.integers(0, 30, 400)]
        called += ranked_groups(torch.from_numpy(random.normal(size=400)), names)[0].p_value <= 0.05
    assert called / 300 < 0.08


def test_a_group_of_all_images_says_nothing():
    (only,) = ranked_groups(torch.tensor([1.0, 2.0]), ["a", "a"])
    assert (only.mean_rank, only.p_value) == (1.5, 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"), 12)


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="attention"))


@pytest.fixture(scope="module")
def referenced(model: StableDiffusion, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    """An index of twelve pictures, the last four of which are held out and were asked."""
    source = tmp_path_factory.mktemp("held") / "images"
    shutil.copytree(folder, source)
    lines = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    for line in lines[-4:]:
        line["split"] = "held_out"
    (source / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    pictures = training_images(source)
    plan = BuildPlan(draws=4, fisher_images=4, fisher_draws=2, shard_size=5)
    built = build_index(model, pictures, source.parent / "index", plan)
    return Attributor(model, build_reference(Attributor(model, built), METHOD, pictures, 3))


def test_the_reference_holds_the_scores_of_held_out_pictures_and_is_checked(referenced: Attributor, tmp_path: Path):
    reference = referenced.index.reference
    assert reference is not None
    catalog = referenced.index.catalog
    assert len(reference.queries) == 3
    assert all(catalog.by_id[query].split == "held_out" for query in reference.queries)
    picture = catalog.path_of(catalog.by_id[reference.queries[0]])
    assert reference.scores.shape == (3, len(catalog.images))
    with Image.open(picture) as file:
        query = referenced.query(file.convert("RGB"), catalog.by_id[reference.queries[0]].caption)
    *_, last = referenced.follow(query, METHOD)
    assert torch.allclose(torch.from_numpy(reference.scores[0]), last.all_scores().scores, atol=1e-3)
    trained = [image.split == "train" for image in catalog.images]
    assert referenced.unseen(METHOD).tolist() == reference.scores[:, trained].max(axis=1).tolist()
    assert referenced.unseen(ForwardInf(loss_budget=0.05)) is None
    assert Attributor(referenced.model, referenced.index.part(reference.queries)).unseen(METHOD) is None

    shutil.copytree(referenced.index.folder, tmp_path / "index")
    np.save(tmp_path / "index" / SCORES, np.zeros((3, len(catalog.images)), np.float32))
    with pytest.raises(DamagedAsset, match=SCORES):
        Index.open(tmp_path / "index")


def test_a_reference_that_was_cut_off_goes_on_to_the_same_scores(
    referenced: Attributor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = np.load(referenced.index.folder / SCORES)
    shutil.copytree(referenced.index.folder, tmp_path / "index")
    for name in (SETTINGS, SCORES):
        (tmp_path / "index" / name).unlink()
    manifest.write_manifest(tmp_path / "index")
    bare = Attributor(referenced.model, Index.open(tmp_path / "index"))
    assert bare.index.reference is None
    follow, asked = Attributor.follow, []

    def failing(self, *arguments):
        asked.append(1)
        if len(asked) == 2:
            raise RuntimeError("cut off")
        return follow(self, *arguments)

    monkeypatch.setattr(Attributor, "follow", failing)
    with pytest.raises(RuntimeError, match="cut off"):
        build_reference(bare, METHOD, referenced.index.catalog, 3)
    assert Index.open(tmp_path / "index").reference is None  # whole or absent
    finished = build_reference(bare, METHOD, referenced.index.catalog, 3)
    assert len(asked) == 4  # the first was not asked again
    assert finished.reference is not None
    np.testing.assert_allclose(finished.reference.scores, whole, atol=1e-3)
    assert not list((tmp_path / "index").glob("*.partial"))
    again = build_reference(Attributor(referenced.model, finished), METHOD, referenced.index.catalog, 3)
    assert (len(asked), again.fingerprint) == (4, finished.fingerprint)  # what is there is not asked again


def test_unrelated_pictures_are_the_same_everywhere_and_more_go_on_from_fewer():
    few, more = unrelated(6, 32), unrelated(40, 32)
    assert [u.name for u in more[:6]] == [u.name for u in few]
    assert all(a.picture.tobytes() == b.picture.tobytes() for a, b in zip(few, more, strict=False))
    assert {u.kind for u in more} == {"procedural", "photograph"}
    assert 0 < sum(u.prompt == "" for u in more) < 40
    assert len({u.picture.tobytes() for u in more}) == 40
    assert all(u.picture.size == (32, 32) for u in more)


def test_a_calibration_study_asks_counts_and_goes_on(referenced: Attributor, tmp_path: Path, monkeypatch):
    journal = Journal(tmp_path / "calibration.jsonl")
    trials = room.run(Calibration(3, 2), referenced, METHOD, journal)
    assert [trial["kind"] for trial in trials] == ["procedural", "photograph", "procedural"]  # none is repeated here
    null = unrelated(1, 16)[0]
    query = referenced.query(null.picture, null.prompt)
    *_, last = referenced.follow(query, METHOD)
    assert trials[0]["p_value"] == pytest.approx(float(referenced.confidence(last.scores(), METHOD).p_values.min()))
    monkeypatch.setattr(Attributor, "follow", lambda *_: pytest.fail("asked again"))
    assert room.run(Calibration(3, 2), referenced, METHOD, journal) == trials
    with pytest.raises(InvalidRequest, match="holds no reference for this method"):
        room.run(Calibration(3, 2), referenced, ForwardInf(loss_budget=0.2), journal)


def test_a_calibration_report_has_the_shares_and_what_they_are_of():
    settings = {"reference_queries": 40}
    null = {"kind": "procedural", "called": 0, "p_value": 0.5, "expected_p_value": None, "held_out_called": 0.0}
    drawn = {"kind": "regenerated", "called": 1, "p_value": 0.02, "expected_p_value": 0.02, "held_out_called": 0.5}
    missed = {**drawn, "called": 0, "expected_p_value": 0.11}
    false = {**null, "called": 2, "p_value": 0.05}
    trials = [t | {"settings": settings} for t in (null, null, null, false, drawn, drawn, missed)]
    report = room.as_report(trials)
    assert [(row["kind"], row["share"]) for row in report["false_discovery"]] == [
        ("procedural", 0.25), ("all unrelated", 0.25)
    ]  # fmt: skip
    assert report["detection"]["share"] == pytest.approx(2 / 3)
    assert report["held_out_called"] == pytest.approx(1.5 / 7)
    assert report["null_p_values"] == [0.05, 0.5, 0.5, 0.5]
    table = room.as_table(report)
    assert "25.0% [4.6%, 69.9%]" in table
    assert "these are 4" in table


def test_an_index_without_held_out_pictures_has_nothing_to_compare_with(
    model: StableDiffusion, folder: Path, tmp_path: Path
):
    plan = BuildPlan(draws=2, fisher_images=2, fisher_draws=1)
    pictures = training_images(folder)
    bare = Attributor(model, build_index(model, pictures, tmp_path / "index", plan))
    with pytest.raises(InvalidRequest, match="no image of the split held_out"):
        build_reference(bare, METHOD, pictures)
    scores = bare.attribute(_picture(pictures), "patch 0")
    confidence = bare.confidence(scores, METHOD)
    assert confidence.p_values is None
    assert confidence.stand_out is None


def _picture(pictures):
    with Image.open(pictures.path_of(pictures.images[0])) as file:
        return file.convert("RGB")
