"""Questions on a tiny model, without a browser: what the page is told, and in which thread the model is touched."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import torch
from PIL import Image

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution import counterfactual
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.shortlist import Effort
from forwardinf.errors import IndexMismatch
from forwardinf.examples.decoding import read_picture
from forwardinf.examples.metadata import training_images
from forwardinf.files.atomic import remove_folder
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.store import Index
from forwardinf.jobs.queue import Run, open_queue
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models.generation import GenerationRequest
from forwardinf.models.sd import StableDiffusion
from forwardinf.records.store import FolderStore, Result
from forwardinf.types import ModelSpec
from forwardinf.web import asking, attribute, experiments, query, runs, showing
from forwardinf.web.asking import Question, Running, Stopped
from forwardinf.web.runs import Given
from forwardinf.web.served import Served
from forwardinf.web.showing import AnswerParts, Page
from forwardinf.web.watching import watcher
from forwardinf.web.worker import Worker


class Witness:
    """Stands for an object, and notes which threads use it and what it gives out."""

    def __init__(self, real: object, threads: set[str]) -> None:
        self._real, self._threads = real, threads

    def __getattr__(self, name: str) -> Any:
        self._threads.add(threading.current_thread().name)
        return getattr(self._real, name)


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="attention"))


@pytest.fixture(scope="module")
def index(model: StableDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Index:
    source = training_images(write_patches(tmp_path_factory.mktemp("patches"), 12))
    return build_index(model, source, tmp_path_factory.mktemp("index") / "patches", BuildPlan(2, 6, 2))


@pytest.fixture
def threads() -> set[str]:
    return set()


@pytest.fixture
def served(index: Index, model: StableDiffusion, threads: set[str], tmp_path: Path) -> Iterator[Served]:
    worker = Worker()

    def load() -> Attributor:
        return Attributor(Witness(model, threads), index)  # type: ignore[arg-type]

    results, queue = FolderStore(tmp_path / "results"), open_queue(tmp_path / "runs", tmp_path)
    served = Served(index, tmp_path, worker.start(load), results, worker, tmp_path / "temporary", queue)
    queue.start(partial(runs.answering, served))
    yield served
    queue.close()


@pytest.fixture
def page(served: Served) -> Page:
    """The components of the main page, unwired."""
    with gr.Blocks():
        form = query.add(served)
        parts = [
            gr.HTML(),
            gr.Button(),
            gr.HTML(),
            gr.HTML(),
            gr.HTML(),
            gr.Button(),
            gr.Button(),
            gr.State(None),
            gr.State(None),
        ]
        return Page(served, form, AnswerParts(*parts, experiments.add(served, parts[-2])))


ADA = SimpleNamespace(session_hash="ada", query_params={})
METHOD = ("ascent", "root", 0.1, 1)


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, format="PNG")
    return buffer.getvalue()


def question(data: bytes, prompt: str = "patch 1") -> Question:
    return Question(read_picture(data, name="red.png"), data, "red.png", prompt, ForwardInf(), None, threading.Event())


def test_an_answer_is_kept_with_the_bytes_that_were_given(served: Served):
    data = png("red")
    *steps, result = served.worker.steps(asking.answered(served, question(data)))
    assert all(isinstance(step, Running) for step in steps)
    assert isinstance(result, Result)
    assert served.results.load(result.id).original == data
    assert (result.record.query.prompt, result.record.query.file_name) == ("patch 1", "red.png")


def test_a_question_that_is_stopped_keeps_nothing(served: Served):
    asked = question(png("red"))
    steps = served.worker.steps(asking.answered(served, asked))
    next(steps)
    asked.stop.set()
    *_, last = steps
    assert isinstance(last, Stopped)
    assert "Nothing was kept" in last.status
    assert not (served.folder.parent / "results").exists()


class Pressed(threading.Event):
    """Stop, pressed when it is looked for the `count`-th time."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.looked = count, 0

    def is_set(self) -> bool:
        self.looked += 1
        return self.looked >= self.count


@pytest.mark.parametrize("effort", [None, Effort(first=2, at_once=2, at_most=4, sample=2)])
def test_a_question_is_left_wherever_stop_is_pressed(served: Served, effort: Effort | None):
    never = Pressed(10**9)
    list(served.worker.steps(asking.answered(served, replace(question(png("red")), effort=effort, stop=never))))
    for count in range(1, never.looked, never.looked // 8):
        stop = Pressed(count)
        asked = replace(question(png("green")), effort=effort, stop=stop)
        *_, last = served.worker.steps(asking.answered(served, asked))
        assert isinstance(last, Stopped)
        assert stop.looked <= count + 1 + torch.get_num_threads()


def test_one_that_is_stopped_when_all_is_paid_but_no_stage_is_whole_keeps_nothing(served: Served):
    effort = Effort(first=2, at_once=2, at_most=4, sample=2)
    whole = replace(question(png("blue")), effort=effort)
    *_, kept = served.worker.steps(asking.answered(served, whole))
    assert isinstance(kept, Result)
    ends = []
    for count in range(1, 12):  # which of these looks falls between the first progress and the first stage may change
        stopped = replace(question(png("blue")), effort=effort, stop=Pressed(count))
        *_, last = served.worker.steps(asking.answered(served, stopped))
        ends.append(last)
    assert any(isinstance(last, Stopped) for last in ends)
    assert all(last.record.results for last in ends if isinstance(last, Result))


async def _watched(page: Page, run_id: str | None) -> list[dict]:
    """All that a page is told of a run."""
    return [updates async for updates in watcher(page)(ADA, SimpleNamespace(id=run_id))]


def watched(page: Page, run_id: str | None) -> list[dict]:
    """In a thread of its own: browser tests leave a loop running in the one that tests run in."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _watched(page, run_id)).result()


def asked(page: Page, sha256: str | None, prompt: str, steps: int = 1, effort: Effort | None = None) -> dict:
    """What a page shows in the end that asks."""
    return seen_to_its_end(
        page, attribute._asker(page, lambda _: effort)(ADA, None, sha256, prompt, 0, steps, 1, *METHOD)
    )


def seen_to_its_end(page: Page, first: dict) -> dict:
    """What a page shows in the end whose question was put in line, or answered at once."""
    shown = dict(first)
    if first.get(page.answer.run):
        for updates in watched(page, first[page.answer.run]):
            shown |= updates
    return shown


def test_a_picture_that_is_being_generated_for_a_question_is_left(served: Served, page: Page):
    run = runs.ask(served, GenerationRequest("patch 1"), "patch 1", ForwardInf(), None)
    run.stop = Pressed(20)
    served.watching["ada"] = run.id
    *_, last = watched(page, run.id)
    assert "Nothing was kept" in last[page.answer.status]
    assert page.form.picture not in last
    assert (run.record.state, run.record.result) == ("stopped", None)


def test_all_of_the_page_touches_the_model_in_the_workers_thread_only(served: Served, page: Page, threads: set[str]):
    draw = query._drawer(served, page.form)
    shown = draw(ADA, None, "red apple", 0, 1, 1, gr.Progress())
    asked(page, shown[page.form.picture], "red apple " * 50)
    attribute._remark(page)("red apple " * 50, "a run", None)
    asked(page, None, "patch 2")
    assert {name.rpartition("_")[0] for name in threads} == {"forwardinf-model"}


def test_the_model_is_refused_to_other_threads(served: Served):
    with pytest.raises(AssertionError, match="outside the worker"):
        served.attributor  # noqa: B018


def test_prompts_in_other_scripts_and_other_settings_are_other_pictures(served: Served, page: Page):
    draw = query._drawer(served, page.form)
    requests = [("红苹果", 0, 1, 1), ("яблоко", 0, 1, 1), ("яблоко", 0, 2, 1), ("яблоко", 0, 1, 9)]
    drawn = [draw(ADA, None, *fields, gr.Progress())[page.form.picture] for fields in requests]
    assert len({served.pictures.read("ada", sha256).data for sha256 in drawn}) == len(set(drawn))
    assert len({served.pictures.read("ada", sha256).name for sha256 in drawn}) == 2  # by prompt and seed


def test_a_line_says_how_long_it_is_and_calls_nobodys_question_anothers(served: Served):
    with served.lock:
        first, second, third = (put(served, colour) for colour in ("red", "green", "blue"))
        told = [runs.status_of(served, run).status for run in (first, second, third)]
        assert runs.WAITING in told[0]
        assert "One question is answered before this one" in told[1]
        assert "2 questions are answered before this" in told[2]
        for run in (third, second, first):
            served.runs.stop(run.id)


def put(served: Served, colour: str) -> Run:
    """Put a question about a plain picture in line."""
    data = png(colour)
    given = Given(hashlib.sha256(data).hexdigest(), f"{colour}.png", data)
    return runs.ask(served, given, "patch 1", ForwardInf(), None)


def test_a_visitor_who_leaves_takes_pictures_along_and_leaves_the_question(served: Served):
    run = put(served, "red")
    served.pictures.keep("ada", b"apple", "apple.png")
    served.leave("ada")
    assert [path for path in served.folder.rglob("*") if path.is_file()] == []
    assert not run.stop.is_set()


def test_a_run_can_be_watched_by_a_page_that_did_not_ask(served: Served, page: Page):
    first = attribute._asker(page, lambda _: None)(ADA, None, None, "patch 1", 0, 1, 1, *METHOD)
    run_id = first[page.answer.run]
    served.watching.clear()
    restored = attribute._watched(page, "ada", run_id)
    assert restored[page.form.prompt] == "patch 1"
    shown: dict = {}
    for updates in watched(page, run_id):
        shown |= updates
    assert shown[page.answer.result] == served.runs.get(run_id).record.result
    assert served.pictures.has("ada", shown[page.form.picture])
    served.leave("ada")
    again = attribute._watched(page, "ada", run_id) | watched(page, run_id)[-1]
    assert again[page.answer.result] == shown[page.answer.result]
    assert served.pictures.has("ada", again[page.form.picture])


def test_a_run_whose_answer_was_deleted_says_so_and_lets_one_ask(served: Served, page: Page):
    asked(page, None, "patch 1")
    (run_id,) = served.runs._runs
    remove_folder(served.results.folder / served.runs.get(run_id).record.result)
    served.leave("ada")
    attribute._watched(page, "ada", run_id)
    *_, last = watched(page, run_id)
    assert "leads to no result" in last[page.form.notice]
    assert last[page.form.find]["interactive"]


def test_a_page_that_shows_another_answer_by_now_is_not_cleared(served: Served, page: Page):
    first = attribute._asker(page, lambda _: None)(ADA, None, None, "patch 1", 0, 1, 1, *METHOD)
    served.watching["ada"] = None
    assert watched(page, first[page.answer.run]) == [{page.form.notice: gr.skip()}]


def test_a_link_to_no_run_says_so(page: Page):
    for run_id in ("0" * 32, "../results"):
        assert "leads to no question" in attribute._watched(page, "ada", run_id)[page.form.notice]


def test_a_question_that_fails_says_so_and_the_next_is_answered(served: Served, page: Page):
    assert "no longer kept" in asked(page, "0" * 64, "patch 1")[page.form.notice]
    assert asked(page, None, "patch 1")[page.answer.result]


def test_a_question_asked_before_is_answered_without_the_model(served: Served, page: Page, monkeypatch):
    sha256 = served.pictures.keep("ada", png("red"), "red.png")
    first = asked(page, sha256, "patch 1")
    sweeps: list[Question] = []
    answered = asking.answered
    monkeypatch.setattr(asking, "answered", lambda served, asked: sweeps.append(asked) or answered(served, asked))
    again = asked(page, sha256, "patch 1")
    assert again[page.answer.result] == first[page.answer.result]
    assert sweeps == []
    assert [shown[page.answer.again]["visible"] for shown in (first, again)] == [False, True]
    other = asked(page, sha256, "patch 2")
    assert other[page.answer.result] != first[page.answer.result]
    assert len(sweeps) == 1


def test_any_image_that_was_weighed_can_be_chosen(served: Served, page: Page):
    *_, whole = served.worker.steps(asking.answered(served, question(png("red"))))
    short = replace(whole, record=whole.record.model_copy(update={"results": whole.record.results[:1]}))
    brief = replace(page, served=replace(served, results=SimpleNamespace(load=lambda _: short)))
    example_id = whole.record.results[5].id
    updates = showing.chosen(brief, whole.id, example_id)
    assert f"Rank 6 of {len(served.index.trained)}" in updates[page.answer.match]
    assert updates[page.answer.experiments.chosen] == example_id
    assert showing.chosen(brief, whole.id, "no image") == {page.answer.match: gr.skip()}


def test_a_match_is_drawn_from_its_caption_and_the_prompt_without_it(served: Served, monkeypatch):
    for rise in ("LEAST_RISE", "USUAL_RISE"):
        monkeypatch.setattr(counterfactual, rise, 0.05)  # an untrained model has no loss to rise to
    *_, whole = served.worker.steps(asking.answered(served, question(png("red"))))
    example_id = whole.record.results[0].id
    again = list(experiments._shown(served, experiments._regenerated)(whole.id, example_id))
    assert "1 of 8" in again[1]
    assert "where 1 is the same picture" in again[-1]
    assert again[-1].count("<img") == 8
    *_, without = experiments._shown(served, experiments._without)(whole.id, example_id)
    assert "Without what it learned from this image" in without
    *_, where = experiments._shown(served, experiments._mapped)(whole.id, example_id)
    assert "Where the influence sits" in where
    assert where.count("data:image/png") == 2
    *_, refused = experiments._shown(served, experiments._without)(whole.id, "no image")
    assert "no training image “no image”" in refused
    *_, gone = experiments._shown(served, experiments._regenerated)("0" * 16, example_id)
    assert "leads to no result" in gone


def test_a_question_can_be_run_again_and_says_whether_the_scores_are_the_same(served: Served, page: Page):
    sha256 = served.pictures.keep("ada", png("red"), "red.png")
    first = asked(page, sha256, "patch 1")
    ask = attribute._asker(page, lambda _: None, again=True)
    again = seen_to_its_end(page, ask(ADA, first[page.answer.result], sha256, "patch 1", 0, 1, 1, *METHOD))
    assert again[page.answer.result] == first[page.answer.result]
    assert "the same images with the same scores" in again[page.form.notice]


def test_a_kept_answer_of_every_image_serves_one_who_asks_for_the_likely_ones(served: Served):
    *_, whole = served.worker.steps(asking.answered(served, question(png("red"))))
    before = asking.answered_before(served, whole.record.query.sha256, "patch 1", ForwardInf(), Effort())
    assert before.id == whole.id
    assert asking.answered_before(served, whole.record.query.sha256, "patch 3", ForwardInf(), Effort()) is None


def test_a_page_whose_model_cannot_be_loaded_says_so(served: Served, page: Page):
    loading: Future[Attributor] = Future()
    loading.set_exception(OSError("no such file"))
    queue = open_queue(served.folder / "other-runs", served.folder)
    broken = replace(served, loading=loading, runs=queue)
    queue.start(partial(runs.answering, broken))
    shown = asked(replace(page, served=broken), None, "patch 1")
    assert query.WENT_WRONG in shown[page.form.notice]
    queue.close()


def test_a_question_of_another_index_is_not_answered_by_this_one(served: Served):
    run = put(served, "red")
    run.record = run.record.model_copy(update={"asked": run.record.asked.model_copy(update={"index": "0" * 64})})
    with pytest.raises(IndexMismatch, match="an index that is not in use any more"):
        list(runs.answering(served, run, png("red")))


def test_without_sketches_nothing_is_shown_as_likely_before_sizes_are_measured(served: Served):
    few = Effort(first=2, at_once=2, at_most=4, similar=1, worded=1, sample=2)
    asked = replace(question(png("blue")), effort=few)
    *steps, result = served.worker.steps(asking.answered(served, asked))
    assert isinstance(steps[1], Running)
    assert steps[1].tiles == ""
    assert result.record.weighed.images < 12
