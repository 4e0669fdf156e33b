"""Questions on a tiny model, without a browser: what the page is told, and in which thread the model is touched."""

from __future__ import annotations

import io
import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import torch
from PIL import Image

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.shortlist import Effort
from forwardinf.examples.decoding import read_picture
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.store import Index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models.sd import StableDiffusion
from forwardinf.records.store import FolderStore, Result
from forwardinf.types import ModelSpec
from forwardinf.web import asking, attribute, query
from forwardinf.web.asking import Question, Running, Stopped
from forwardinf.web.attribute import Page
from forwardinf.web.served import Run, Served
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
def served(index: Index, model: StableDiffusion, threads: set[str], tmp_path: Path) -> Served:
    worker = Worker()

    def load() -> Attributor:
        return Attributor(Witness(model, threads), index)  # type: ignore[arg-type]

    results = FolderStore(tmp_path / "results")
    return Served(index, tmp_path, worker.start(load), results, worker, tmp_path / "temporary")


@pytest.fixture
def page(served: Served) -> Page:
    """The components of the main page, unwired."""
    with gr.Blocks():
        form = query.add(served)
        parts = [gr.HTML(), gr.Button(), gr.HTML(), gr.HTML(), gr.HTML(), gr.Button(), gr.State(None)]
        return Page(served, form, attribute.AnswerParts(*parts))


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


def test_a_picture_that_is_being_generated_for_a_question_is_left(served: Served, page: Page, monkeypatch):
    monkeypatch.setattr(attribute, "Run", lambda _stop, sha256: Run(Pressed(20), sha256))
    *_, last = attribute._finder(page, None)(ADA, None, "patch 1", 0, 5, 1, *METHOD)
    assert "Nothing was kept" in last[page.answer.status]
    assert page.form.picture not in last
    assert served.running == {}


def test_all_of_the_page_touches_the_model_in_the_workers_thread_only(served: Served, page: Page, threads: set[str]):
    draw = query._drawer(served, page.form)
    shown = draw(ADA, None, "red apple", 0, 1, 1, gr.Progress())
    find = attribute._finder(page, None)
    list(find(ADA, shown[page.form.picture], "red apple " * 50, 0, 1, 1, *METHOD))
    list(find(ADA, None, "patch 2", 0, 1, 1, *METHOD))
    assert {name.rpartition("_")[0] for name in threads} == {"forwardinf-model"}


def test_the_model_is_refused_to_other_threads(served: Served):
    with pytest.raises(AssertionError, match="outside the worker"):
        served.attributor  # noqa: B018


def test_prompts_in_other_scripts_and_other_settings_are_other_pictures(served: Served, page: Page):
    draw = query._drawer(served, page.form)
    asked = [("红苹果", 0, 1, 1), ("яблоко", 0, 1, 1), ("яблоко", 0, 2, 1), ("яблоко", 0, 1, 9)]
    drawn = [draw(ADA, None, *fields, gr.Progress())[page.form.picture] for fields in asked]
    assert len({served.pictures.read("ada", sha256).data for sha256 in drawn}) == len(set(drawn))
    assert len({served.pictures.read("ada", sha256).name for sha256 in drawn}) == 2  # by prompt and seed


def test_who_comes_second_is_told_of_the_queue_and_nobody_is_told_of_their_own_question(served: Served):
    assert query.awaiting(served, "ada") == query.WAITING
    served.running["ada"] = Run(threading.Event(), None)
    assert query.awaiting(served, "ada") == query.WAITING
    assert query.awaiting(served, "bob") == query.IN_LINE


def test_only_another_picture_stops_a_question(served: Served):
    run = served.running["ada"] = Run(threading.Event(), "a" * 64)
    served.stop("ada", unless="a" * 64)
    served.stop("bob")
    assert not run.stop.is_set()
    served.stop("ada", unless="b" * 64)
    assert run.stop.is_set()


def test_a_visitor_who_leaves_takes_question_and_pictures_along(served: Served):
    run = served.running["ada"] = Run(threading.Event(), None)
    served.pictures.keep("ada", b"apple", "apple.png")
    served.leave("ada")
    assert run.stop.is_set()
    assert [path for path in served.folder.rglob("*") if path.is_file()] == []


def test_a_page_that_shows_another_answer_by_now_is_not_cleared(served: Served, page: Page):
    steps = attribute._finder(page, None)(ADA, None, "patch 1", 0, 1, 1, *METHOD)
    next(steps)
    served.abandon("ada")
    assert list(steps) == []
    assert served.running == {}


def test_a_question_that_fails_says_so_and_the_next_is_answered(served: Served, page: Page):
    find = attribute._finder(page, None)
    *_, failed = find(ADA, "0" * 64, "patch 1", 0, 1, 1, *METHOD)
    assert "no longer kept" in failed[page.form.notice]
    assert served.running == {}
    *_, answered = find(ADA, None, "patch 1", 0, 1, 1, *METHOD)
    assert answered[page.answer.result]


def test_a_question_asked_before_is_answered_without_the_model(served: Served, page: Page, monkeypatch):
    find = attribute._finder(page, None)
    sha256 = served.pictures.keep("ada", png("red"), "red.png")
    *_, first = find(ADA, sha256, "patch 1", 0, 1, 1, *METHOD)
    sweeps: list[Question] = []
    answered = asking.answered
    monkeypatch.setattr(asking, "answered", lambda served, asked: sweeps.append(asked) or answered(served, asked))
    *_, again = find(ADA, sha256, "patch 1", 0, 1, 1, *METHOD)
    assert again[page.answer.result] == first[page.answer.result]
    assert sweeps == []
    *_, other = find(ADA, sha256, "patch 2", 0, 1, 1, *METHOD)
    assert other[page.answer.result] != first[page.answer.result]
    assert len(sweeps) == 1


def test_a_kept_answer_of_every_image_serves_one_who_asks_for_the_likely_ones(served: Served):
    *_, whole = served.worker.steps(asking.answered(served, question(png("red"))))
    before = asking.answered_before(served, whole.record.query.sha256, "patch 1", ForwardInf(), Effort())
    assert before.id == whole.id
    assert asking.answered_before(served, whole.record.query.sha256, "patch 3", ForwardInf(), Effort()) is None


def test_a_page_whose_model_cannot_be_loaded_says_so(index: Index, tmp_path: Path, page: Page):
    loading: Future[Attributor] = Future()
    loading.set_exception(OSError("no such file"))
    broken = Served(index, tmp_path, loading, FolderStore(tmp_path), Worker(), tmp_path)
    *_, failed = attribute._finder(replace(page, served=broken), None)(ADA, None, "patch 1", 0, 1, 1, *METHOD)
    assert query.FAILED in failed[page.form.notice]


def test_without_sketches_nothing_is_shown_as_likely_before_sizes_are_measured(served: Served):
    few = Effort(first=2, at_once=2, at_most=4, similar=1, worded=1, sample=2)
    asked = replace(question(png("blue")), effort=few)
    *steps, result = served.worker.steps(asking.answered(served, asked))
    assert isinstance(steps[1], Running)
    assert steps[1].tiles is None
    assert result.record.weighed.images < 12
