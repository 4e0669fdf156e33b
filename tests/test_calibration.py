"""What is said of how sure an answer is: it holds when nothing is there to find, and finds what is."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution.answer import answer_of
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.build_null import build_null, unlike_any, with_null
from forwardinf.attribution.null_changes import changes_under
from forwardinf.errors import DamagedAsset, InvalidRequest
from forwardinf.examples.metadata import training_images
from forwardinf.files import manifest
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.null_file import SCORES, SETTINGS
from forwardinf.index.store import Index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.methods.protocol import AttributionMethod
from forwardinf.methods.registry import load_method
from forwardinf.models.generation import GenerationRequest
from forwardinf.models.sd import StableDiffusion
from forwardinf.scoring import groups as calibration
from forwardinf.scoring.confidence import RATE, Confidence, highest, p_values, rank_ranges
from forwardinf.scoring.groups import PERMUTATIONS, SMALL, outranked, ranked_groups
from forwardinf.scoring.null import SHARED, NullDistribution
from forwardinf.scoring.score import SIZE_NOISE, Changes, score
from forwardinf.studies import calibration as room
from forwardinf.studies.calibration import Calibration
from forwardinf.studies.journal import Journal
from forwardinf.studies.unrelated import unrelated
from forwardinf.types import InfluenceScores, ModelSpec

METHOD = ForwardInf()


def test_p_values_count_the_reference_that_reaches_as_high():
    found = p_values(torch.tensor([5.0, 3.0, 2.9, 0.0]), torch.tensor([1.0, 3.0, 4.0]))
    assert found.tolist() == [1 / 4, 3 / 4, 3 / 4, 4 / 4]


def test_an_image_at_the_very_rate_is_called_by_every_comparison():
    p = p_values(torch.tensor([27.5, 26.5]), torch.arange(29.0) + 0.5)  # reached by two of 29, and by three
    assert p.tolist() == [3 / 30, 4 / 30]
    assert [one <= RATE for one in p.tolist()] == (p <= RATE).tolist() == [True, False]


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


def test_an_image_counts_by_its_z_score_against_its_null_distribution():
    first = torch.tensor([[4.0, 0.0, 0.0], [6.0, 0.0, 0.2], [5.0, 0.0, 0.1]])  # the first image always moves
    null = NullDistribution.of(("restless", "still", "calm"), torch.stack([first, 2 * first], dim=2))
    spread = [SHARED * (1.0 + 0.0 + 0.1) / 3 + deviation for deviation in (0.1, 1.0)]  # twice at the second draw
    found = score(Changes(("calm", "restless"), torch.tensor([[1.0, 3.0], [4.0, 10.0]])), null)
    assert found.example_ids == ("calm", "restless")
    calm = [(1.0 - 0.1) / spread[0], (3.0 - 0.2) / (2 * spread[0])]
    assert found.per_draw.tolist() == [pytest.approx(calm), pytest.approx([-1 / spread[1], 0.0])]
    assert found.scores.tolist() == pytest.approx([sum(calm) / 2, 0.0])  # a negative mean counts as 0
    assert found.standard_errors[0].item() == pytest.approx(abs(calm[0] - calm[1]) / 2)


def test_weights_multiply_z_scores():
    per_draw, weights = torch.tensor([[2.0, 4.0], [1.0, 1.0]]), torch.tensor([3.0, 1.0])
    null = NullDistribution(positions={"a": 0, "b": 1}, mean=torch.ones(2, 2), spread=torch.full((2, 2), 0.5))
    found = score(Changes(("a", "b"), per_draw, weights), null).of({"a"})
    assert found.per_draw.tolist() == [[6.0, 18.0]]
    assert (found.scores.item(), found.standard_errors.item()) == pytest.approx((12.0, 6.0))
    assert score(Changes(("a", "b"), per_draw)).scores.tolist() == [3.0, 1.0]
    assert score(Changes(("a", "b"), -per_draw)).scores.tolist() == [-3.0, -1.0]  # no floor without a null distribution


def changes_of(per_draw: torch.Tensor, weights: torch.Tensor | None = None, size_draws: int = 0) -> list[Changes]:
    """One for each picture of `[b n d]`."""
    ids = tuple(map(str, range(per_draw.shape[1])))
    each = per_draw.unbind() if weights is None else zip(per_draw, weights, strict=True)
    return [Changes(ids, one, None, size_draws) if weights is None else Changes(ids, *one, size_draws) for one in each]


def test_a_null_picture_is_held_against_the_null_distribution_of_the_others():
    random = torch.Generator().manual_seed(0)
    per_draw, weights = torch.randn(5, 40, 3, generator=random) ** 2, 1 + torch.rand(5, 40, generator=random)
    null = changes_of(per_draw, weights)
    expected = []
    for left_out, found in enumerate(null):
        others = NullDistribution.of(found.example_ids, per_draw[[n for n in range(5) if n != left_out]])
        expected.append(score(found, others).scores[:30].max().item())
    among = torch.arange(40) < 30
    assert highest(null, among).tolist() == pytest.approx(expected)
    as_they_are = (per_draw.mean(dim=2) * weights)[:2, :30].max(dim=1).values
    assert highest(null[:2], among).tolist() == pytest.approx(as_they_are.tolist())  # too few


def test_the_threshold_is_the_score_above_which_an_image_stands_out():
    null = torch.arange(29.0)
    scores = torch.tensor([25.9, 26.0, 26.1])
    found = InfluenceScores(("a", "b", "c"), scores, scores, scores[:, None])
    sure = Confidence.of(found, null[torch.randperm(29)])
    assert (sure.threshold, sure.null_pictures) == (26.0, 29)
    assert sure.stands_out.tolist() == [False, False, True]
    assert sure.number_standing_out == 1
    few = Confidence.of(found, null[:8])
    assert (few.threshold, few.number_standing_out, few.null_pictures) == (None, None, 8)
    assert Confidence.of(found, null[:9]).threshold == 8.0  # p = 1/10 only above all of them
    assert Confidence.of(found, None).p_values is None


def test_false_calls_stay_rare_where_some_images_always_move():
    """Images of very different restlessness; the reference and the answers come from the same crowd."""
    random = torch.Generator().manual_seed(2)
    images, queries, answers = 200, 29, 400
    restlessness = torch.rand(images, generator=random) * 5
    ids, called = tuple(map(str, range(images))), 0
    for _ in range(answers):
        pictures = restlessness + restlessness * torch.randn(queries + 1, images, generator=random)
        reference, answer = pictures[:-1].clamp(min=0)[..., None], pictures[-1].clamp(min=0)[:, None]
        scores = score(Changes(ids, answer), NullDistribution.of(ids, reference)).scores
        all_of_them = torch.ones(images, dtype=torch.bool)
        called += bool((p_values(scores, highest(changes_of(reference), all_of_them)) <= RATE).any())
    assert called / answers < 0.12


def test_ranks_range_over_what_they_are_without_each_draw():
    def ranges(per_draw: list[list[float]], size_draws: int = 0, weights: list[float] | None = None) -> list[list[int]]:
        ids, given = tuple(map(str, range(len(per_draw)))), None if weights is None else torch.tensor(weights)
        return rank_ranges(score(Changes(ids, torch.tensor(per_draw), given, size_draws))).tolist()

    # Without the first draw the second image falls behind the third; else it is ahead of it or level.
    assert ranges([[9.0, 9.0, 9.0], [8.0, 0.0, 0.0], [1.0, 2.0, 3.0]]) == [[1, 1], [2, 3], [2, 3]]
    assert ranges([[1.0], [2.0]]) == [[2, 2], [1, 1]]
    # The first is second without either draw, but first as it is.
    assert ranges([[6.0, 6.0], [11.0, 0.0], [0.0, 11.0]])[0] == [1, 2]
    # Without the size the first has nothing; without an error the others still have the mean of those that are left.
    assert ranges([[0.0, 0.0, 3.0], [6.0, 6.0, 0.0], [2.0, 4.0, 0.0]], size_draws=1) == [[1, 3], [1, 2], [2, 3]]
    assert ranges([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]], size_draws=1, weights=[3.0, 1.0]) == [[1, 1], [2, 2]]
    assert ranges([[1.0, 2.0], [2.0, 1.0]], size_draws=1) == [[1, 2], [1, 2]]


def test_a_size_has_the_noise_that_is_usual_for_it_beside_the_standard_error_of_the_errors():
    per_draw = torch.tensor([[1.0, 1.0, 1.0, 3.0], [2.0, 4.0, 6.0, -1.0]])
    scores = score(Changes(("learned", "alike"), per_draw, torch.tensor([1.0, 2.0]), size_draws=1))
    assert scores.scores.tolist() == pytest.approx([1 + 9, 8])
    assert scores.standard_errors.tolist() == pytest.approx([2 * SIZE_NOISE * 9, 2 * 2 / 3**0.5])


def test_a_groups_p_value_is_that_of_all_permutations():
    scores, names = torch.tensor([9.0, 8.0, 5.0, 3.0, 2.0, 1.0]), ["a", "a", "b", "a", "b", "b"]
    found = {group.name: group for group in ranked_groups(scores, names)}
    ranks = [1, 2, 4]
    at_least = sum(sum(other) <= sum(ranks) for other in itertools.combinations(range(1, 7), 3))
    exact = at_least / 20
    assert found["a"].mean_rank == pytest.approx(7 / 3)
    assert found["a"].images == 3
    assert found["a"].p_value == pytest.approx(2 * exact, rel=0.03)  # two groups were tested
    assert found["b"].p_value == pytest.approx(19 / 20, rel=0.03)  # all but one of twenty rank as high


@pytest.mark.parametrize("size", [1, 2, 3, 10, 11])
def test_a_small_group_that_ranks_first_is_found_among_images_half_of_which_tie(size: int):
    scores = torch.cat([torch.arange(1000, 0, -1.0), torch.zeros(1000)])
    names = ["first"] * size + [f"other {n % 50}" for n in range(2000 - size)]
    group = next(group for group in ranked_groups(scores, names) if group.name == "first")
    exact = 51 / math.comb(2000, size)  # 51 groups are tested
    least = 51 / (PERMUTATIONS + 1) if size <= SMALL else exact
    assert group.mean_rank == (1 + size) / 2
    assert max(exact, least) * 0.5 <= group.p_value <= max(2.5 * exact, 0.001)


def test_a_large_groups_p_value_is_that_of_the_rank_sum_test():
    random = np.random.default_rng(0)
    names = random.choice(["a", "b", "c"], 400)
    values = np.maximum(0, random.normal(size=400) + 0.3 * (names == "b"))  # nearly half of them tie
    found = {group.name: group.p_value for group in ranked_groups(torch.from_numpy(values), names.tolist())}
    inside = names == "b"
    alone = mannwhitneyu(values[inside], values[~inside], alternative="greater").pvalue
    assert found["b"] == pytest.approx(3 * alone, rel=1e-9)  # three groups were tested


def test_a_group_of_all_but_a_few_images_is_compared_with_random_ones():
    scores, names = torch.arange(40, 0, -1.0), ["most"] * 38 + ["last"] * 2
    found = {group.name: group.p_value for group in ranked_groups(scores, names)}
    assert found["most"] == pytest.approx(2 / math.comb(40, 2), rel=0.3)  # two groups were tested
    assert found["last"] == 1.0


def test_images_that_tie_share_their_mean_rank():
    found = ranked_groups(torch.tensor([0.0, 0.0, 0.0, 5.0]), ["a", "b", "a", "b"])
    assert {group.name: group.mean_rank for group in found} == {"a": 3.0, "b": 2.0}


def test_groups_drawn_at_random_are_seldom_called_however_many_there_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calibration, "PERMUTATIONS", 10_000)  # for speed; a tenth of them is exact enough here
    random = np.random.default_rng(0)
    called = 0
    for _ in range(300):
        names = [f"creator {n}" for n in random.integers(0, 30, 400)]
        called += ranked_groups(torch.from_numpy(random.normal(size=400)), names)[0].p_value <= 0.05
    assert 0.02 < called / 300 < 0.08


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
    """An index of twelve pictures, the last six of which are held out; half of these were asked."""
    source = tmp_path_factory.mktemp("held") / "images"
    shutil.copytree(folder, source)
    lines = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    for line in lines[-6:]:
        line["split"] = "held_out"
    (source / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    pictures = training_images(source)
    plan = BuildPlan(draws=4, fisher_images=4, fisher_draws=2, shard_size=5)
    built = build_index(model, pictures, source.parent / "index", plan)
    return Attributor(model, build_null(Attributor(model, built), METHOD, pictures, 3))


def test_the_reference_holds_the_scores_of_held_out_pictures_and_is_checked(referenced: Attributor, tmp_path: Path):
    reference = referenced.index.null_changes
    assert reference is not None
    catalog = referenced.index.catalog
    assert len(reference.queries) == 3
    assert all(catalog.by_id[query].split == "held_out" for query in reference.queries)
    asked = reference.queries[0]
    raw = _raw_among_others(referenced, asked, catalog.by_id[asked].caption)
    row = [image.id for image in catalog.images].index(asked)
    others = [i for i in range(len(catalog.images)) if i != row]
    assert reference.per_draw.shape == (3, len(catalog.images), 4)
    assert torch.allclose(reference.per_draw[0][others], raw.per_draw, atol=1e-3)
    assert torch.allclose(reference.likeness_weights[0][others], raw.likeness_weights, atol=1e-3)
    assert not reference.found[0, row].any()
    trained = torch.tensor([image.split == "train" for image in catalog.images])
    assert torch.equal(referenced.null_scores(METHOD), highest(changes_under(reference, referenced.index), trained))
    assert referenced.null_scores(METHOD) is referenced.null_scores(METHOD)  # computed once
    assert referenced.null_scores(ForwardInf(loss_budget=0.05)) is None
    assert Attributor(referenced.model, referenced.index.part(reference.queries)).null_scores(METHOD) is None

    shutil.copytree(referenced.index.folder, tmp_path / "index")
    opened = Attributor(referenced.model, Index.open(tmp_path / "index"))
    (tmp_path / "index" / SCORES).write_bytes(b"damaged")
    with pytest.raises(DamagedAsset, match=SCORES):
        opened.null_scores(METHOD)
    with pytest.raises(DamagedAsset, match=SCORES):
        Index.open(tmp_path / "index")


@pytest.mark.parametrize(
    ("method", "kept", "comparable"),
    [
        (ForwardInf(seed=1), {}, True),  # decides nothing without draws of the query
        (ForwardInf(seed=1, own_draws=2), {}, False),
        (ForwardInf(own_draws=2), {}, False),
        (ForwardInf(loss_budget=0.05), {}, False),
        (ForwardInf(), {"likeness": None}, True),  # a setting that was added later, at its default
        (ForwardInf(), {"likeness": False}, False),
        (ForwardInf(), {"no_such_setting": 1}, False),
        (load_method("plain"), {}, False),
    ],
)
def test_a_null_distribution_serves_every_method_that_scores_alike(
    referenced: Attributor, tmp_path: Path, method: AttributionMethod, kept: dict, comparable: bool
):
    folder = shutil.copytree(referenced.index.folder, tmp_path / "index")
    fields = json.loads((folder / SETTINGS).read_text())
    known = {key: value for key, value in (fields["settings"]["method"] | kept).items() if value is not None}
    fields["settings"]["method"] = known
    (folder / SETTINGS).write_text(json.dumps(fields))
    manifest.write_manifest(folder)
    attributor = Attributor(referenced.model, Index.open(folder))
    assert (attributor.null_scores(method) is not None) == comparable
    assert (attributor.null(method) is not None) == comparable


def test_a_null_distribution_serves_only_the_weights_it_was_measured_with(referenced: Attributor):
    fewer = StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="cross-attention k,v"))
    assert Attributor(fewer, referenced.index).null_scores(METHOD) is None


def _raw_among_others(attributor: Attributor, query_id: str, prompt: str) -> Changes:
    """What an indexed picture finds where it has no row of its own, as no picture has that an answer is sought for."""
    catalog = attributor.index.thumbnails
    query = attributor.query(catalog.picture(catalog.by_id[query_id]), prompt)
    others = attributor.index.part({image.id for image in catalog.images} - {query_id})
    *_, last = replace(attributor, index=others, against_null=False).follow(query, METHOD)
    return last.changes


def test_an_answer_without_a_prompt_is_compared_with_pictures_asked_without_one(referenced: Attributor, tmp_path: Path):
    reference, catalog = referenced.index.null_changes, referenced.index.catalog
    trained = torch.tensor([image.split == "train" for image in catalog.images])
    bare = []
    for query_id in reference.queries:
        raw = _raw_among_others(referenced, query_id, "")
        everywhere = torch.zeros(len(catalog.images), raw.per_draw.shape[1])
        everywhere[[image.id != query_id for image in catalog.images]] = raw.per_draw
        bare.append(everywhere)
    unseen = referenced.null_scores(METHOD, prompted=False)
    captioned = changes_under(reference, referenced.index)
    bare = [replace(c, per_draw=found) for c, found in zip(captioned, bare, strict=True)]
    expected = highest(captioned, trained, bare)
    assert torch.allclose(unseen, expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(unseen, referenced.null_scores(METHOD), rtol=1e-2)
    query = referenced.query(_picture(referenced.index.thumbnails))
    *_, last = referenced.follow(query, METHOD)
    answer = answer_of(referenced, query, METHOD, last)
    told = dict(zip(answer.scores.example_ids, answer.confidence.p_values.tolist(), strict=True))
    scores = last.scores()
    expected = dict(zip(scores.example_ids, p_values(scores.scores, unseen).tolist(), strict=True))
    assert told == expected
    assert torch.equal(answer.confidence.null_scores, unseen.sort().values)

    shutil.copytree(referenced.index.folder, tmp_path / "index")
    fields = json.loads((tmp_path / "index" / SETTINGS).read_text())
    (tmp_path / "index" / SETTINGS).write_text(json.dumps(fields | {"unprompted": None}))
    manifest.write_manifest(tmp_path / "index")
    without = Attributor(referenced.model, Index.open(tmp_path / "index"))
    assert without.null_scores(METHOD) is not None
    assert without.confidence(scores, METHOD, prompted=False).number_standing_out is None
    (tmp_path / "index" / SETTINGS).write_text(json.dumps(fields | {"unprompted": [1.0]}))
    manifest.write_manifest(tmp_path / "index")
    with pytest.raises(DamagedAsset, match="is not whole"):
        Attributor(referenced.model, Index.open(tmp_path / "index")).null_scores(METHOD)


def test_answers_are_held_against_the_null_distribution_unless_told_otherwise(referenced: Attributor):
    picture = _picture(referenced.index.thumbnails)
    raw = with_null(referenced, METHOD, referenced.index.catalog, 0).attribute(picture, "patch 0", METHOD)
    *_, last = referenced.follow(referenced.query(picture, "patch 0"), METHOD)
    reference = referenced.index.null_changes
    null = NullDistribution.of([image.id for image in referenced.index.catalog.images], reference.per_draw)
    expected = score(last.changes, null).of(raw.example_ids)
    assert torch.allclose(last.scores().scores, expected.scores, atol=1e-4)
    assert (raw.scores - last.scores().scores).abs().max() > 0.01
    other = ForwardInf(loss_budget=0.05)  # of which the reference knows nothing
    *_, last = referenced.follow(referenced.query(picture, "patch 0"), other)
    assert torch.equal(last.all_scores().scores, score(last.changes).scores)


def test_only_pictures_unlike_any_training_image_are_asked(referenced: Attributor):
    unlike = unlike_any(referenced.index)
    assert len(unlike) == 3  # half of those held out
    assert set(referenced.index.null_changes.queries) == set(unlike)
    latents = {i: row for shard in referenced.index.shards() for i, row in _rows(shard)}
    trained = sorted(referenced.index.trained)
    mean = torch.stack([latents[i] for i in trained]).mean(dim=0)
    alike = {
        i: max(float(torch.cosine_similarity(row - mean, latents[t] - mean, dim=0)) for t in trained)
        for i, row in latents.items()
        if i not in referenced.index.trained
    }
    assert max(alike[i] for i in unlike) <= min(alike[i] for i in alike.keys() - set(unlike))


def test_a_reference_that_was_cut_off_goes_on_to_the_same_scores(
    referenced: Attributor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = referenced.index.null_changes.found
    shutil.copytree(referenced.index.folder, tmp_path / "index")
    for name in (SETTINGS, SCORES):
        (tmp_path / "index" / name).unlink()
    manifest.write_manifest(tmp_path / "index")
    bare = Attributor(referenced.model, Index.open(tmp_path / "index"))
    assert bare.index.null_changes is None
    follow, asked = Attributor.follow, []

    def failing(self, *arguments):
        asked.append(1)
        if len(asked) == 2:
            raise RuntimeError("cut off")
        return follow(self, *arguments)

    monkeypatch.setattr(Attributor, "follow", failing)
    with pytest.raises(RuntimeError, match="cut off"):
        build_null(bare, METHOD, referenced.index.thumbnails, 3)
    assert Index.open(tmp_path / "index").null_changes is None  # whole or absent
    finished = build_null(bare, METHOD, referenced.index.thumbnails, 3)
    assert len(asked) == 7  # three pictures with and without a prompt; the first was not asked again
    assert finished.null_changes is not None
    np.testing.assert_allclose(finished.null_changes.found, whole, atol=1e-3)
    assert not list((tmp_path / "index").glob("*.partial"))
    again = build_null(Attributor(referenced.model, finished), METHOD, referenced.index.thumbnails, 3)
    assert (len(asked), again.fingerprint) == (7, finished.fingerprint)  # what is there is not asked again


def test_a_reference_of_another_schema_counts_as_none_and_is_made_anew(referenced: Attributor, tmp_path: Path):
    shutil.copytree(referenced.index.folder, tmp_path / "index")
    settings = tmp_path / "index" / SETTINGS
    fields = json.loads(settings.read_text())
    settings.write_text(json.dumps({key: value for key, value in fields.items() if key != "schema"}))
    manifest.write_manifest(tmp_path / "index")
    old = Attributor(referenced.model, Index.open(tmp_path / "index"))
    assert old.index.null_changes is None
    assert old.null_scores(METHOD) is None
    again = build_null(old, METHOD, referenced.index.thumbnails, 3)
    assert again.fingerprint == referenced.index.fingerprint


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
    with pytest.raises(InvalidRequest, match="no null distribution from 9 pictures or more"):
        room.run(Calibration(3, 2), referenced, METHOD, journal)
    monkeypatch.setattr(room, "FEWEST_FOR_VERDICT", 2)
    trials = room.run(Calibration(3, 2), referenced, METHOD, journal)
    chosen_by = {null.name for null in unrelated(room.CHOSEN_BY, 16)}
    assert not chosen_by & {trial["query"] for trial in trials}
    assert [trial["kind"] for trial in trials] == ["procedural", "photograph", "procedural"]  # none is repeated here
    null = unrelated(room.CHOSEN_BY + 1, 16)[-1]
    query = referenced.query(null.picture, null.prompt)
    *_, last = referenced.follow(query, METHOD)
    least = float(referenced.confidence(last.scores(), METHOD, query.prompted).p_values.min())
    assert trials[0]["p_value"] == pytest.approx(least)
    monkeypatch.setattr(Attributor, "follow", lambda *_: pytest.fail("asked again"))
    assert room.run(Calibration(3, 2), referenced, METHOD, journal) == trials
    with pytest.raises(InvalidRequest, match="for these settings of forward_inf"):
        room.run(Calibration(3, 2), referenced, ForwardInf(loss_budget=0.2), journal)


def test_the_images_shown_most_often_are_drawn_anew_and_must_be_called(
    referenced: Attributor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(room, "FEWEST_FOR_VERDICT", 2)
    catalog = referenced.index.catalog
    trained = [image.id for image in catalog.of_split("train").images]
    shown = {trained[2]: 3, trained[0]: 7, trained[1]: 3}
    images = tuple(replace(image, repeats=shown.get(image.id, 1)) for image in catalog.images)
    repeating = replace(referenced, index=replace(referenced.index, catalog=replace(catalog, images=images)))
    trials = room.run(Calibration(1, 2), repeating, METHOD, Journal(tmp_path / "calibration.jsonl"))
    often = [trained[0], min(trained[1:3])]
    assert [(t["query"], t["kind"]) for t in trials[1:]] == [(f"drawn/{image}", "regenerated") for image in often]
    for number, (image, trial) in enumerate(zip(often, trials[1:], strict=True)):
        caption = catalog.by_id[image].caption
        drawn = referenced.model.generate(GenerationRequest(caption, seed=room.SEED + number))
        *_, last = referenced.follow(referenced.query(drawn, caption), METHOD)
        scores = last.scores()
        own = referenced.confidence(scores, METHOD).p_values[scores.example_ids.index(image)]
        assert trial["expected_p_value"] == pytest.approx(float(own))
        assert trial["p_value"] <= trial["expected_p_value"]
    assert room.as_report(trials)["detection"]["queries"] == 2


def test_a_calibration_report_has_the_shares_and_what_they_are_of():
    settings = {"reference_queries": 40}
    none = {"failed": None, "called": 0, "p_value": 0.5, "expected_p_value": None, "held_out_called": 0.0}
    null = {"kind": "procedural", **none}
    drawn = {
        "kind": "regenerated",
        "failed": None,
        "called": 1,
        "p_value": 0.02,
        "expected_p_value": 0.02,
        "held_out_called": 0.5,
    }
    missed = {**drawn, "called": 4, "expected_p_value": 0.11}
    false = {**null, "called": 2, "p_value": 0.05, "held_out_called": 0.1}
    refused = {**null, "failed": "no step"}
    named = zip(("a-1", "b-1", "c-d-1", "a-2", "drawn/1", "drawn/2", "drawn/3"),
                (null, null, refused, false, drawn, drawn, missed), strict=True)  # fmt: skip
    trials = [t | {"query": name, "settings": settings} for name, t in named]
    report = room.as_report(trials)
    assert [(row["kind"], row["share"]) for row in report["false_discovery"]] == [
        ("procedural", 0.25), ("all unrelated", 0.25)
    ]  # fmt: skip
    assert report["detection"]["share"] == pytest.approx(2 / 3)
    assert [row["sources"] for row in report["false_discovery"]] == [3, 3]
    assert (report["detection"]["called_beside"], report["detection"]["queries_with_more"]) == (4, 1)
    assert report["held_out_called"] == pytest.approx(1 / 4)
    assert report["null_p_values"] == [0.05, 0.5, 0.5, 0.5]
    table = room.as_table(report)
    assert "25.0% [4.6%, 69.9%]" in table
    assert "these are 4" in table
    assert "No step was possible on 1 of the pictures" in table


def test_an_index_without_held_out_pictures_has_nothing_to_compare_with(
    model: StableDiffusion, folder: Path, tmp_path: Path
):
    plan = BuildPlan(draws=2, fisher_images=2, fisher_draws=1)
    pictures = training_images(folder)
    bare = Attributor(model, build_index(model, pictures, tmp_path / "index", plan))
    with pytest.raises(InvalidRequest, match="no image of the split held_out"):
        build_null(bare, METHOD, pictures)
    scores = bare.attribute(_picture(pictures), "patch 0")
    confidence = bare.confidence(scores, METHOD)
    assert confidence.p_values is None
    assert confidence.number_standing_out is None


def _picture(pictures):
    return pictures.picture(pictures.images[0])


def _rows(shard):
    return zip(shard.batch.example_ids, shard.batch.latents.float().flatten(1), strict=True)


@pytest.mark.parametrize("count", [0, 8, 9, 19, 29, 40, 99])
def test_an_image_stands_out_just_where_it_scores_above_the_threshold(count: int):
    null = torch.randn(count, generator=torch.Generator().manual_seed(count)).double()
    scores = torch.zeros(1)
    bar = Confidence.of(InfluenceScores(("a",), scores, scores, scores[:, None]), null).threshold
    assert (bar is None) == (count < 9)
    tried = torch.cat([null, null + 1e-9, null - 1e-9, torch.tensor([-9.0, 9.0])])
    called = [bar is not None and score > bar for score in tried.tolist()]
    assert called == (p_values(tried, null) <= RATE).tolist()


def test_a_groups_effect_is_how_often_it_outranks_the_others():
    scores = torch.tensor([9.0, 8.0, 7.0, 7.0, 5.0, 4.0])
    names = ["a", "b", "a", "b", "b", "a"]
    pairs = [(1.0 if x > y else 0.5 if x == y else 0.0)
             for x, n in zip(scores.tolist(), names, strict=True) if n == "a"
             for y, m in zip(scores.tolist(), names, strict=True) if m == "b"]  # fmt: skip
    found = {group.name: outranked(group.images, group.mean_rank, 6) for group in ranked_groups(scores, names)}
    assert found["a"] == pytest.approx(sum(pairs) / len(pairs))
    assert found["b"] == pytest.approx(1 - found["a"])
    assert outranked(6, 3.5, 6) == 0.5
