"""The lab's ground truth and the score that is taken from it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import ASSETS
from forwardinf.errors import DamagedAsset, InvalidRequest
from forwardinf.examples.catalog import Catalog
from forwardinf.methods.registry import load_method
from forwardinf.scoring.score import Changes, score
from forwardinf.studies import lds as room
from forwardinf.studies import steadiness
from forwardinf.studies.ground_truth import GroundTruth, LabPlan, make, query_losses
from forwardinf.studies.lab_scores import attributor_of, scores_of
from forwardinf.studies.lds import Lds, interval, lds
from forwardinf.studies.steadiness import Steadiness
from forwardinf.training.lab import LabImages, Recipe, train_on
from forwardinf.types import LatentBatch

SHIPPED = ASSETS / "emoji-diffusion"
TINY = Recipe(channels=(16, 16, 16), heads=(1, 1, 1), start_total=128, passes=8)


@pytest.fixture(scope="module")
def artwork() -> Catalog:
    """A few pictures of each split."""
    whole = Catalog.load(ASSETS / "emoji")
    splits = [whole.of_split(name).images[:12] for name in ("train", "held_out", "reserve")]
    return Catalog(whole.folder, tuple(sorted((image for split in splits for image in split), key=lambda i: i.id)))


@pytest.fixture(scope="module")
def plan(artwork: Catalog) -> LabPlan:
    return replace(LabPlan.of(artwork, TINY, count=8, queries=2), subsets=10, draws=2)


@pytest.fixture(scope="module")
def truth(artwork: Catalog, plan: LabPlan, tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    folder = tmp_path_factory.mktemp("lab")
    return make(folder / "lab", artwork, SHIPPED, plan, folder / "work", until=9)


def additive(queries: int = 6, images: int = 40, subsets: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Influences, masks, and losses that are their sums."""
    random = np.random.default_rng(0)
    influences, masks = random.normal(size=(queries, images)), random.random((subsets, images)) < 0.5
    return influences, masks, 3 - masks @ influences.T


def test_influences_that_add_up_to_the_losses_score_one_and_opposite_ones_minus_one():
    influences, masks, losses = additive()
    np.testing.assert_allclose(lds(influences, masks, losses), 1)
    np.testing.assert_allclose(lds(-influences, masks, losses), -1)
    np.testing.assert_allclose(lds(np.zeros_like(influences), masks, losses), 0)


def test_random_scores_score_about_nothing_and_noise_lowers_the_score():
    influences, masks, losses = additive(queries=200)
    random = np.random.default_rng(1)
    assert abs(lds(random.normal(size=influences.shape), masks, losses).mean()) < 0.05
    blurred = lds(influences, masks, losses + 5 * random.normal(size=losses.shape)).mean()
    assert 0.2 < blurred < 0.95


def test_the_interval_is_over_subsets_and_covers_what_more_subsets_show():
    influences, masks, losses = additive(queries=20, subsets=4096)
    random = np.random.default_rng(2)
    noisy = losses + 5 * random.normal(size=losses.shape)
    everything = np.ones(20, dtype=bool)
    truth = lds(influences, masks, noisy).mean()
    bounds = [interval(influences, masks[s : s + 64], noisy[s : s + 64], everything) for s in range(0, 512, 64)]
    assert sum(low <= truth <= high for low, high in bounds) >= 6  # of 8
    assert all(high - low > 0.01 for low, high in bounds)


def test_a_making_that_was_cut_off_goes_on_to_the_same_losses(truth: GroundTruth, plan: LabPlan, tmp_path: Path):
    for name in ("lab.json", "start.safetensors"):
        (tmp_path / "lab").mkdir(exist_ok=True)
        shutil.copy(truth.folder / name, tmp_path / "lab" / name)
    first = make(tmp_path / "lab", truth.artwork, SHIPPED, plan, tmp_path / "work", until=1)
    assert first.losses.shape == (1, 4, 3)
    more = make(tmp_path / "lab", truth.artwork, SHIPPED, plan, tmp_path / "work", until=2)
    np.testing.assert_array_equal(more.losses, truth.losses[:2])
    with pytest.raises(InvalidRequest, match="another plan"):
        make(tmp_path / "lab", truth.artwork, SHIPPED, replace(plan, subsets=11), tmp_path / "work", until=2)


def test_the_truth_holds_half_subsets_queries_of_both_origins_and_is_checked(truth: GroundTruth, tmp_path: Path):
    plan = truth.plan
    assert (plan.masks.sum(axis=1) == 4).all()
    assert len({mask.tobytes() for mask in plan.masks}) > 5
    assert [query.seed is None for query in plan.queries] == [False, False, True, True]
    held_out = truth.artwork.by_id[plan.queries[2].id]
    assert held_out.split == "held_out"
    assert held_out.id not in plan.images
    assert truth.picture(0).size == truth.picture(2).size == (64, 64)
    shutil.copytree(truth.folder, tmp_path / "lab")
    np.save(tmp_path / "lab" / "losses.npy", np.zeros((10, 12), np.float32))
    with pytest.raises(DamagedAsset, match=r"losses\.npy"):
        GroundTruth.open(tmp_path / "lab", truth.artwork, SHIPPED)


def test_training_lowers_the_loss_of_the_images_trained_on_below_that_of_the_others(truth: GroundTruth):
    model, plan = truth.model("all"), truth.plan
    images = LabImages.of(model, truth.images)
    start = {name: weights.float() for name, weights in load_file(truth.folder / "start.safetensors").items()}
    recipe = replace(plan.recipe, passes=300)
    batch = LatentBatch(images.ids, images.latents, model.encode_prompt([i.caption for i in truth.images.images]))
    losses = {}
    for rows in ((0, 1, 2, 3), (4, 5, 6, 7)):
        model.unet.load_state_dict(train_on(recipe, model, start, images, rows, seed=0))
        losses[rows] = query_losses(model, batch, plan).mean(dim=1)
    moved = losses[4, 5, 6, 7] - losses[0, 1, 2, 3]
    assert (moved[:4] > 0).all()
    assert (moved[4:] < 0).all()


def test_a_method_is_scored_and_its_scores_are_kept(
    truth: GroundTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    method, study = load_method("forward_inf", loss_budget=0.005), Lds(1, "all")
    attributor = attributor_of(truth, "cross-attention k,v", tmp_path, method, draws=2)
    scores = scores_of(study.chosen(truth), truth, attributor, method, tmp_path)
    assert scores.shape == (2, 8)
    assert study.chosen(truth) == Lds(1, "choosing").chosen(truth) == [0, 2]
    assert Lds().chosen(truth) == []  # of two queries all were used for choosing
    for queries, part, named in [(100, "tuning", "choosing, reported, all"), (15, "reported", "first 15")]:
        with pytest.raises(InvalidRequest, match=named):
            Lds(queries, part)
    direct = attributor.attribute(truth.picture(2), truth.plan.queries[2].caption, method)
    by_id = dict(zip(direct.example_ids, direct.scores.tolist(), strict=True))
    np.testing.assert_allclose(scores[1], [by_id[image] for image in truth.plan.images], rtol=1e-6)
    report = room.as_report(study, truth, attributor, method, scores)
    assert report["lds"]["all"]["queries"] == 2
    assert report["settings"]["subsets"] == 9
    assert "Over 9 random half subsets" in room.as_table(report)
    monkeypatch.setattr(type(attributor), "attribute", lambda *_: pytest.fail("scored again"))
    np.testing.assert_array_equal(scores_of(study.chosen(truth), truth, attributor, method, tmp_path), scores)


def test_steadiness_compares_what_is_claimed_with_what_other_noise_does(
    truth: GroundTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    method = load_method("plain", loss_budget=0.005)
    study = Steadiness(queries=1, seeds=2, part="all", top=3)
    attributors = [
        attributor_of(truth, "cross-attention k,v", tmp_path, method, draws=2, seed=seed) for seed in range(2)
    ]
    assert len({attributor.index.folder for attributor in attributors}) == 2
    assert [attributor.index.info.draw_seed for attributor in attributors] == [0, 1]
    found = steadiness.run(study, truth, attributors, method, tmp_path)
    assert [len(answers) for answers in found] == [2, 2]
    number = study.chosen(truth)[1]
    direct = attributors[1].attribute(truth.picture(number), truth.plan.queries[number].caption, method)
    np.testing.assert_array_equal(found[1][1], steadiness.figures_of(direct))
    report = json.loads(json.dumps(steadiness.as_report(study, attributors[0], method, found)))
    assert (report["settings"]["seeds"], report["settings"]["queries"]) == (2, 2)
    assert 0 <= report["within"] <= 1
    assert "2 queries of the all part, each at 2 draw seeds" in steadiness.as_table(report)
    monkeypatch.setattr(type(attributors[0]), "attribute", lambda *_: pytest.fail("asked again"))
    again = steadiness.run(study, truth, attributors, method, tmp_path)
    assert all(np.array_equal(one, other) for one, other in zip(again, found, strict=True))
    with pytest.raises(InvalidRequest, match="two draw seeds"):
        Steadiness(seeds=1)
    with pytest.raises(InvalidRequest, match="no queries in the part “reported”"):
        Steadiness().chosen(truth)


def test_where_standard_errors_are_right_the_ratio_is_one(truth: GroundTruth, tmp_path: Path):
    random, method = np.random.default_rng(0), load_method("plain")
    attributor = attributor_of(truth, "cross-attention k,v", tmp_path, method, draws=2)  # for its settings alone
    ids, mean = tuple(map(str, range(200))), np.linspace(3, 0, 200)[:, None]

    def report(draws: int, claimed: float) -> dict[str, float]:
        found = []
        for _ in range(20):
            answers = [torch.from_numpy(mean + random.normal(size=(200, draws))) for _ in range(4)]
            scored = [score(Changes(ids, answer)) for answer in answers]
            claims = [replace(one, standard_errors=one.standard_errors * claimed) for one in scored]
            found.append(np.stack([steadiness.figures_of(one) for one in claims]))
        return steadiness.as_report(Steadiness(20, 4, "all"), attributor, method, found)

    right = report(16, 1.0)
    assert right["claimed"] == pytest.approx(right["spread"], rel=0.1)
    assert right["spread"] == pytest.approx(1 / 4, rel=0.1)
    assert 0.9 < right["ratio"] < 1.3  # the median of a spread over four seeds is a little low
    assert report(16, 0.5)["claimed"] == pytest.approx(0.5 * right["claimed"], rel=0.1)
    still = report(1024, 1.0)
    assert still["again"] > right["again"] > 0.2
