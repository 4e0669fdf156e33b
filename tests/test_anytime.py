"""Answers that weigh the likely images alone: what is foreseen, in which order it is weighed, and when it ends."""

from __future__ import annotations

import json
import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_records import record
from PIL import Image

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution import foresight
from forwardinf.attribution.answer import STOPPED, answer_of
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.build_null import build_null
from forwardinf.attribution.build_sketch import build_sketch
from forwardinf.attribution.foresight import Foresight
from forwardinf.attribution.shortlist import Effort, Shortlist, worded
from forwardinf.attribution.stages import ALL_LIKELY, OUT_OF_TIME
from forwardinf.errors import DamagedAsset, InvalidRequest
from forwardinf.examples.metadata import training_images
from forwardinf.files import manifest
from forwardinf.gradients.whitening import Whitening
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.sketch_file import INFO, SKETCHES
from forwardinf.index.store import Index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models.sd import StableDiffusion
from forwardinf.records.recording import record_of
from forwardinf.records.store import id_of
from forwardinf.records.text import as_table, weighed_note
from forwardinf.types import InfluenceScores, ModelSpec, Query

COUNT = 40
SMALL = Effort(first=3, at_once=6, at_most=24, similar=2, worded=2, sample=8)
METHOD = ForwardInf(size_budget=0.01)  # an untrained model is less linear than a trained one


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"), COUNT)


@pytest.fixture(scope="module")
def plain(folder: Path, model: StableDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Index:
    plan = BuildPlan(draws=4, fisher_images=6, fisher_draws=2, shard_size=16)
    return build_index(model, training_images(folder), tmp_path_factory.mktemp("index") / "plain", plan)


@pytest.fixture(scope="module")
def attributor(plain: Index, model: StableDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    """On a copy of the index, with sketches."""
    return Attributor(model, build_sketch(model, copied(plain, tmp_path_factory.mktemp("index") / "sketched")))


@pytest.fixture(scope="module")
def query(attributor: Attributor, folder: Path) -> Query:
    return attributor.query(Image.open(folder / "07.png").convert("RGB"), "patch 7")


def copied(index: Index, folder: Path) -> Index:
    import shutil

    shutil.copytree(index.folder, folder)
    return Index.open(folder)


def last(attributor: Attributor, query: Query, effort: Effort | None, method: ForwardInf = METHOD):
    *_, progress = attributor.follow(query, method, effort)
    return progress


# What is foreseen


def test_the_change_of_a_size_is_foreseen_from_the_sketches(attributor: Attributor, query: Query):
    full = last(attributor, query, None)
    size = next(r for r in full.state.rounds if r.quantity == "size")
    measured = (full.table["size"].sqrt() - full.table.base_sizes_of("size").sqrt())[:, 0]
    sketches = attributor.index.sketches
    whitening = Whitening(attributor.index.fisher(), sketches.info.damping, sketches.info.dimensions, 0)
    seen = Foresight(attributor.index, sketches, whitening.of_move(size.deltas)).changes(full.table.example_ids)
    assert float(torch.corrcoef(torch.stack([seen, measured]))[0, 1]) > 0.9
    assert float((seen @ measured) / (measured @ measured)) == pytest.approx(1, abs=0.1)


def test_likely_images_come_in_the_order_of_what_is_foreseen_for_them(attributor: Attributor, query: Query):
    found = next(attributor.follow(query, METHOD, SMALL)).shortlist
    seen = [found.foreseen[example_id] for example_id in found.likely]
    positive = [x for x in seen if x > float(found.population.mean())]
    assert positive == sorted(positive, reverse=True)
    assert positive


def test_of_a_large_index_the_images_with_the_highest_products_are_ordered(attributor, query, monkeypatch):
    whole = next(attributor.follow(query, METHOD, SMALL)).shortlist
    monkeypatch.setattr(foresight, "ORDERED", 10)
    part = next(attributor.follow(query, METHOD, replace(SMALL, at_most=10))).shortlist
    assert part.likely == whole.likely[:10]
    assert len({*part.likely, *part.sample}) > 10  # the sample reaches beyond what is ordered


def test_images_with_the_rarest_words_of_a_prompt_come_first(attributor: Attributor):
    assert worded(attributor.index, "a patch: 7!", 3)[0] == "07.png"
    assert len(worded(attributor.index, "patch", 5)) == 5
    assert worded(attributor.index, "", 5) == worded(attributor.index, "nothing like it", 5) == []


# In stages


def test_what_is_weighed_scores_as_in_an_exhaustive_sweep_but_for_what_is_usual(attributor, query):
    full, part = last(attributor, query, None), last(attributor, query, SMALL)
    weighed = part.table.example_ids
    assert 0 < len(weighed) < COUNT
    rows = [full.table.example_ids.index(example_id) for example_id in weighed]
    for quantity in ("loss", "size"):
        torch.testing.assert_close(part.table[quantity], full.table[quantity][rows])
    best = full.scores().top(1)[0][0]
    assert part.scores().top(1)[0][0] == best


def test_sampled_images_stand_for_all_others(attributor: Attributor, query: Query):
    for progress in attributor.follow(query, METHOD, SMALL):
        if not progress.stages:
            continue
        found, ids = progress.shortlist, progress.table.example_ids
        stands_for = found.stands_for(ids, progress.stages)
        assert float(stands_for.sum()) == pytest.approx(COUNT)
        chosen = {*found.likely[: SMALL.at_once * progress.stages], *found.others}
        assert all(one == 1 for example_id, one in zip(ids, stands_for.tolist(), strict=True) if example_id in chosen)
        assert all(one > 0 for one in stands_for.tolist())


def test_shares_make_what_is_foreseen_usual_where_they_can(attributor: Attributor, query: Query):
    found = next(attributor.follow(query, METHOD, SMALL)).shortlist
    ids = sorted({*found.stages[0]})
    shares, seen = found.stands_for(ids, 1), torch.tensor([found.foreseen[example_id] for example_id in ids])
    everything = found.population
    assert float((shares * seen).sum() / COUNT) == pytest.approx(float(everything.mean()), rel=1e-4)
    assert float((shares * seen**2).sum()) == pytest.approx(float((everything**2).sum()), rel=1e-4)


def test_an_answer_ends_once_two_stages_brought_none_of_the_first():
    found = Shortlist(tuple("abcdefgh"), (), (), {}, torch.zeros(2), 100, Effort(first=2, at_once=2))

    def decided(stages: int, **high: float) -> bool:
        ids = tuple("abcdefgh")[: 2 * stages]
        values = torch.tensor([high.get(example_id, 0.1) for example_id in ids])
        return found.is_decided(InfluenceScores(ids, values, values, values[:, None]), stages)

    assert not decided(1, a=3, b=2)
    assert not decided(2, a=3, b=2)
    assert decided(3, a=3, b=2)
    assert not decided(3, a=3, c=2)
    assert not decided(3, a=3, f=2)
    assert decided(4, c=3, d=2)


def test_the_number_overlooked_is_about_what_a_sample_tells():
    random = torch.Generator().manual_seed(0)
    expected, told = 0, 0.0
    for _ in range(60):
        everything = torch.empty(3000).exponential_(1.0, generator=random)
        high = torch.tensor([6.0, 6.5, 7.0])  # the first, with a lowest score of 6
        sample = everything[:200]
        ids = tuple(f"{n}" for n in range(203))
        found = Shortlist(
            ids[200:], (), ids[:200], dict.fromkeys(ids, 0.0), torch.zeros(2), 3003, Effort(first=3, at_once=3)
        )
        scores = torch.cat([sample.clamp(max=5.9), high])
        told += found.overlooked(InfluenceScores(ids, scores, scores, scores[:, None]), 1)
        expected += int((everything[200:] > 6).sum())
    assert told == pytest.approx(expected, rel=0.35)


def test_a_time_limit_ends_after_the_stage_that_is_under_way_and_says_so(attributor: Attributor, query: Query):
    short = last(attributor, query, replace(SMALL, seconds=1e-9))
    assert (short.stages, short.ended, short.done) == (1, OUT_OF_TIME, short.total)
    assert set(short.scores().example_ids) == set(short.shortlist.stages[0])
    assert last(attributor, query, replace(SMALL, first=30, at_once=6)).ended == ALL_LIKELY


@pytest.mark.parametrize("wrong", [{"first": 0}, {"seconds": 0.0}, {"seconds": -1.0}, {"seconds": float("nan")}])
def test_an_effort_that_decides_nothing_is_refused(wrong: dict[str, Any]):
    with pytest.raises(InvalidRequest, match="must be above 0"):
        Effort.to_decide(**{"first": 10, **wrong})


def test_where_the_effort_would_weigh_all_or_nothing_is_foreseen_all_images_are_weighed(
    attributor: Attributor, plain: Index, model: StableDiffusion, query: Query
):
    everything = last(attributor, query, None).scores().scores
    progress = last(attributor, query, Effort())  # for more than there are
    assert progress.shortlist is None
    torch.testing.assert_close(progress.scores().scores, everything)
    for other in (attributor, Attributor(model, plain)):  # with sketches and without
        assert last(other, query, SMALL, ForwardInf(size_draws=0)).shortlist is None


def test_a_sweep_closed_in_any_stage_leaves_the_model_as_it_was(attributor: Attributor, query: Query):
    before = {name: p.detach().clone() for name, p in attributor.model.tunable_parameters().items()}
    steps = len(list(attributor.follow(query, METHOD, SMALL)))
    for stop in range(1, steps):
        with closing(attributor.follow(query, METHOD, SMALL)) as sweep:
            for _ in range(stop):
                next(sweep)
        assert all(torch.equal(p, before[name]) for name, p in attributor.model.tunable_parameters().items())


# What is kept of it


def test_a_record_says_what_was_weighed_and_differs_from_that_of_an_exhaustive_sweep(attributor, query):
    full, part = (
        record_of(answer_of(attributor, query, METHOD, last(attributor, query, effort)), attributor.index, 5)
        for effort in (None, SMALL)
    )
    assert full.weighed is None
    assert "weighed" not in json.loads(full.to_json())
    assert part.weighed.images < COUNT == part.index.trained
    assert part.groups.creator == ()  # images that were not weighed have no rank
    assert full.groups.creator
    assert id_of(full) != id_of(part)
    assert weighed_note(full) == ""
    assert f"{part.weighed.images} of {COUNT} training images were weighed" in as_table(part)
    ranks = {match.id: match.similarity_rank for match in full.results}
    assert all(match.similarity_rank == ranks.get(match.id, match.similarity_rank) for match in part.results)


def test_an_answer_that_was_stopped_after_a_stage_says_so(attributor: Attributor, query: Query):
    stopped = next(now for now in attributor.follow(query, METHOD, SMALL) if now.stages == 1)
    weighed = answer_of(attributor, query, METHOD, replace(stopped, ended="")).weighed
    assert (weighed.ended, weighed.images) == (STOPPED, len(stopped.table.example_ids))


@pytest.mark.parametrize(("overlooked", "told"), [(0.01, "Fewer than 0.1 of"), (0.26, "0.3 of"), (12.0, "12.0 of")])
def test_the_number_overlooked_is_told_as_one_number(overlooked: float, told: str):
    weighed = {"images": 500, "first": 10, "ended": "the time was up", "overlooked": overlooked}
    assert told in weighed_note(record(weighed=weighed))


# The file


def test_sketches_change_no_fingerprint_and_are_made_once(plain: Index, attributor: Attributor, model: StableDiffusion):
    sketched = attributor.index
    assert (sketched.fingerprint, sketched.measured_fingerprint) == (plain.fingerprint, plain.measured_fingerprint)
    assert sketched.manifest.fingerprint != plain.manifest.fingerprint
    assert build_sketch(model, sketched) is sketched
    assert {INFO, SKETCHES} <= sketched.manifest.files.keys()


def test_sketches_of_another_size_replace_those_that_were_there(attributor, model, tmp_path):
    other = build_sketch(model, copied(attributor.index, tmp_path / "index"), dimensions=64)
    assert other.sketches.info.dimensions == 64
    assert Index.open(other.folder).sketches.kept.d == 64


def test_sketches_do_not_depend_on_how_images_are_batched(attributor: Attributor, model: StableDiffusion):
    whitening = Whitening(attributor.index.fisher(), 0.1, 512, 0)
    plan = attributor.index.info.plan.part((3,))
    batch = next(attributor.index.shards()).batch

    def of(start: int, stop: int) -> torch.Tensor:
        part = batch.rows(start, stop)
        return whitening.of_sizes(model, part, plan.draws(part.example_ids, part.latents.shape[1:]))

    torch.testing.assert_close(torch.cat([of(0, 1), of(1, 4)]), of(0, 4))


def test_building_again_keeps_the_sketches(attributor, folder, model, tmp_path):
    index = copied(attributor.index, tmp_path / "index")
    plan = BuildPlan(draws=4, fisher_images=6, fisher_draws=2, shard_size=16)
    again = build_index(model, training_images(folder), index.folder, plan)
    assert again.manifest.fingerprint == index.manifest.fingerprint


@pytest.mark.parametrize("name", [INFO, SKETCHES])
def test_sketches_that_cannot_be_read_are_named(attributor: Attributor, tmp_path: Path, name: str):
    index = copied(attributor.index, tmp_path / "index")
    (index.folder / name).write_bytes(b"{}" if name == INFO else b"no sketches")
    manifest.write_manifest(index.folder)
    if name == INFO:
        assert Index.open(index.folder).sketches is None  # of a schema that this version does not know
    else:
        with pytest.raises(DamagedAsset, match="sketches of “index”"):
            assert Index.open(index.folder).sketches


def test_sketches_of_too_few_images_are_refused(attributor: Attributor, tmp_path: Path):
    index = copied(attributor.index, tmp_path / "index")
    from forwardinf.index.sketch_file import SketchInfo, write_sketches

    write_sketches(index.folder, SketchInfo((3,), 8), [torch.ones(2, 8)])
    manifest.write_manifest(index.folder)
    with pytest.raises(DamagedAsset, match="not whole"):
        assert Index.open(index.folder).sketches


def test_a_null_is_used_to_order_what_is_foreseen(model, folder, tmp_path):
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    source = tmp_path / "pictures"
    source.mkdir()
    for row in rows:
        (source / row["file_name"]).write_bytes((folder / row["file_name"]).read_bytes())
    marked = [{**row, "split": "held_out"} if n >= 32 else row for n, row in enumerate(rows)]
    (source / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in marked))
    plan = BuildPlan(draws=4, fisher_images=6, fisher_draws=2, splits=("train", "held_out"))
    index = build_sketch(model, build_index(model, training_images(source), tmp_path / "index", plan))
    index = build_null(Attributor(model, index), METHOD, training_images(source), 3, unprompted=False)
    attributor = Attributor(model, index)
    asked = attributor.query(Image.open(source / "07.png").convert("RGB"), "patch 7")
    found = next(attributor.follow(asked, METHOD, replace(SMALL, at_most=12))).shortlist
    assert set(found.stages[0]) <= index.trained  # held-out images are not weighed
    progress = last(attributor, asked, replace(SMALL, at_most=12))
    assert progress.null is not None
    assert math.isfinite(float(progress.scores().scores.sum()))
