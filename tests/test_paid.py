"""An answer to a question that was asked before pays for the difference alone."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Counted, tiny_pipeline, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.build_sketch import build_sketch
from forwardinf.attribution.paid import Paid, PaidQuestions
from forwardinf.attribution.progress import AttributionProgress
from forwardinf.attribution.shortlist import Effort
from forwardinf.attribution.stages import OUT_OF_TIME
from forwardinf.errors import StopRequested
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.decoding import read_picture
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.sketch_file import INFO, SKETCHES
from forwardinf.jobs.queue import open_queue
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.methods.protocol import Unmoved
from forwardinf.models.sd import StableDiffusion
from forwardinf.records.store import FolderStore, Result
from forwardinf.stopping import heeded
from forwardinf.sweep.rounds import Measured, Round
from forwardinf.types import ModelSpec, Query
from forwardinf.web import asking
from forwardinf.web.asking import Question
from forwardinf.web.served import Served
from forwardinf.web.worker import Worker

COUNT, DRAWS = 40, 3
SMALL = Effort(first=3, at_once=6, at_most=24, similar=2, worded=2, sample=8)
FEW = replace(SMALL, seconds=1e-9)
METHOD = ForwardInf(size_budget=0.01)


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return training_images(write_patches(tmp_path_factory.mktemp("patches"), COUNT))


@pytest.fixture(scope="module")
def attributor(model: StableDiffusion, pictures: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    plan = BuildPlan(draws=DRAWS, fisher_images=4, fisher_draws=2, shard_size=16)
    return Attributor(
        model, build_sketch(model, build_index(model, pictures, tmp_path_factory.mktemp("i") / "x", plan))
    )


@pytest.fixture(scope="module")
def query(attributor: Attributor, pictures: Catalog) -> Query:
    return attributor.query(pictures.picture(pictures.images[7]), "patch 7")


@pytest.fixture(scope="module")
def whole(attributor: Attributor, query: Query) -> AttributionProgress:
    return last(attributor, query, None)


def last(attributor: Attributor, query: Query, effort: Effort | None, paid: Paid | None = None) -> AttributionProgress:
    *_, progress = attributor.follow(query, METHOD, effort, paid)
    return progress


def forwards(counted: Counted, work: Any) -> int:
    """Latents that the model is asked about while `work` is done."""
    counted.latents = 0
    work()
    return counted.latents


def assert_as(found: AttributionProgress, whole: AttributionProgress) -> None:
    """All images with figures that differ by no more than how many are measured together makes them differ."""
    assert found.table.example_ids == whole.table.example_ids
    assert (found.done, found.total) == (COUNT, COUNT)
    for quantity in whole.table.quantities:
        assert found.table.has(quantity)
        torch.testing.assert_close(found.table[quantity], whole.table[quantity], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.scores().scores, whole.scores().scores, rtol=5e-2, atol=1e-2)


def test_weighing_all_after_a_staged_answer_pays_for_the_other_images(attributor, query, whole, counted: Counted):
    paid = Paid()
    step = forwards(counted, lambda: attributor.prepare(query, METHOD))
    staged = forwards(counted, lambda: last(attributor, query, FEW, paid))
    weighed = len(attributor.follow(query, METHOD, FEW, paid).__next__().shortlist.stages[0])
    assert staged == step + DRAWS * weighed
    found: list[AttributionProgress] = []
    rest = forwards(counted, lambda: found.extend(attributor.follow(query, METHOD, None, paid)))
    assert rest == DRAWS * (COUNT - weighed) > 0
    assert found[0].done == weighed  # shown at once
    assert_as(found[-1], whole)
    assert forwards(counted, lambda: last(attributor, query, None, paid)) == 0
    assert_as(last(attributor, query, None, paid), whole)


def test_a_larger_effort_after_a_staged_answer_pays_for_the_difference(attributor, query, counted: Counted):
    paid, larger = Paid(), replace(SMALL, first=12, at_once=12, at_most=30)
    last(attributor, query, FEW, paid)
    had = set(next(attributor.follow(query, METHOD, FEW, paid)).shortlist.stages[0])
    found: list[AttributionProgress] = []
    paid_for = forwards(counted, lambda: found.extend(attributor.follow(query, METHOD, larger, paid)))
    wanted = set(found[-1].table.example_ids)
    assert wanted & had
    assert paid_for == DRAWS * len(wanted - had) > 0
    alone = last(attributor, query, larger)
    assert found[-1].table.example_ids == alone.table.example_ids
    torch.testing.assert_close(found[-1].scores().scores, alone.scores().scores, rtol=1e-2, atol=1e-3)


def test_a_staged_answer_after_all_were_weighed_pays_for_nothing(attributor, query, counted: Counted):
    paid = Paid()
    last(attributor, query, None, paid)
    found: list[AttributionProgress] = []
    assert forwards(counted, lambda: found.append(last(attributor, query, FEW, paid))) == 0
    assert (found[0].stages, found[0].ended) == (1, OUT_OF_TIME)


@pytest.mark.parametrize("effort", [None, SMALL], ids=["all", "staged"])
def test_what_a_stop_cut_off_is_not_paid_again(attributor, query, whole, counted: Counted, effort: Effort | None):
    """Wherever it came, also within a stage: what was measured until then stays measured."""
    paid, pressed = Paid(), threading.Event()
    with closing(heeded(attributor.follow(query, METHOD, effort, paid), pressed.is_set)) as steps:
        list(islice(steps, 3))
        pressed.set()
        with pytest.raises(StopRequested):
            next(steps)
    had = sum(
        len(m.example_ids) * len(m.columns) for m in paid.of(attributor.index.catalog.by_id) if m.quantity != "likeness"
    )
    assert had > 0
    found: list[AttributionProgress] = []
    rest = forwards(counted, lambda: found.append(last(attributor, query, None, paid)))
    assert rest == DRAWS * COUNT - had
    assert_as(found[0], whole)


def test_the_journal_knows_images_whatever_they_were_measured_with(
    attributor, query, whole, counted: Counted, tmp_path: Path
):
    kept = replace(attributor, journal=tmp_path)
    step = forwards(counted, lambda: attributor.prepare(query, METHOD))
    staged = forwards(counted, lambda: last(kept, query, FEW)) - step
    found: list[AttributionProgress] = []
    rest = forwards(counted, lambda: found.append(last(kept, query, None))) - step
    assert staged > 0
    assert staged + rest == DRAWS * COUNT
    assert_as(found[0], whole)
    assert forwards(counted, lambda: last(kept, query, None)) == step


def test_other_questions_share_nothing(
    attributor: Attributor, pictures: Catalog, query, counted: Counted, tmp_path: Path
):
    kept = replace(attributor, journal=tmp_path)
    other = attributor.query(pictures.picture(pictures.images[3]), "patch 3")
    last(kept, query, None)
    step = forwards(counted, lambda: attributor.prepare(other, METHOD))
    assert forwards(counted, lambda: last(kept, other, None)) == step + DRAWS * COUNT


def measured(quantity: str, **values: float) -> Measured:
    return Measured(quantity, (0,), tuple(values), torch.tensor(list(values.values()))[:, None])


def test_what_is_paid_is_kept_by_image_and_first_come(tmp_path: Path):
    paid = Paid()
    for one in (measured("loss", a=1, b=2), measured("loss", b=9, c=3), measured("size", a=4)):
        paid.add(one)
    assert paid.unknown(Round("loss", (0,)), "abcd") == ("d",)
    assert paid.unknown(Round("size", (0,)), "abcd") == ("b", "c", "d")
    assert paid.rest_of(Round("loss", (0,)), "abc") is None
    assert paid.rest_of(Round("loss", (0,), example_ids=("c", "e")), "abc").example_ids == ("e",)
    assert paid.rest_of(Round("other", (0,)), "abc").example_ids is None
    found = {
        (m.quantity, i): float(v) for m in paid.of("bc") for i, v in zip(m.example_ids, m.values[:, 0], strict=True)
    }
    assert found == {("loss", "b"): 2, ("loss", "c"): 3}


def test_only_as_many_questions_are_kept_as_there_is_room_for():
    questions = PaidQuestions(most=100)
    state = Unmoved(rounds=(Round("loss", (0,), {"w": torch.zeros(10)}),))  # 40 bytes
    for key in "abcd":
        questions.of(key).state = state
    assert questions.of("d").state is state
    assert questions.of("a").state is None
    questions.of("large").state = Unmoved(rounds=(Round("loss", (0,), {"w": torch.zeros(1000)}),))
    assert questions.of("large").state is not None
    assert questions.of("d").state is None


def test_the_page_weighs_all_for_the_difference(attributor: Attributor, pictures: Catalog, counted: Counted, tmp_path):
    worker = Worker()
    served = Served(
        attributor.index,
        tmp_path,
        worker.start(lambda: attributor),
        FolderStore(tmp_path / "r"),
        worker,
        tmp_path / "t",
        open_queue(tmp_path / "runs", tmp_path),
    )
    data = pictures.path_of(pictures.images[7]).read_bytes()
    read = read_picture(data, name="07.png")

    def answer(effort: Effort | None) -> Result:
        question = Question(read, data, "07.png", "patch 7", METHOD, effort, threading.Event())
        *_, result = worker.steps(asking.answered(served, question))
        assert isinstance(result, Result)
        return result

    step = forwards(counted, lambda: attributor.prepare(attributor.query(read.rgb, "patch 7"), METHOD))
    results: list[Result] = []
    staged = forwards(counted, lambda: results.append(answer(FEW))) - step
    rest = forwards(counted, lambda: results.append(answer(None)))
    assert staged > 0
    assert rest == DRAWS * COUNT - staged
    assert [result.record.weighed is None for result in results] == [False, True]
    assert results[0].id != results[1].id


def test_without_sketches_sizes_come_first_and_only_likely_images_are_weighed(
    attributor: Attributor, query, whole, counted: Counted
):
    index = attributor.index
    bare = replace(attributor, index=replace(index, manifest=index.manifest.without_files(INFO, SKETCHES)))
    paid = Paid()
    step = forwards(counted, lambda: attributor.prepare(query, METHOD))
    found: list[AttributionProgress] = []
    all_of_it = forwards(counted, lambda: found.extend(bare.follow(query, METHOD, FEW, paid)))
    weighed = found[-1].table.example_ids
    assert SMALL.at_once < len(weighed) < COUNT
    assert all_of_it == step + COUNT + (DRAWS - 1) * len(weighed)
    assert [p.stages for p in found] == sorted(p.stages for p in found)
    change = (whole.table["size"].sqrt() - whole.table.base_sizes_of("size").sqrt()).mean(dim=1)
    best = [whole.table.example_ids[i] for i in change.argsort(descending=True).tolist()]
    assert list(found[-1].shortlist.likely[:3]) == best[:3]
    rest = forwards(counted, lambda: found.extend(bare.follow(query, METHOD, None, paid)))
    assert rest == (DRAWS - 1) * (COUNT - len(weighed))
    assert_as(found[-1], whole)
