"""The main page: a picture in, the training images that are estimated to have shaped it most out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import gradio as gr

from ..attribution.shortlist import Effort
from ..errors import ForwardInfError, IndexMismatch, InvalidRequest, StopRequested
from ..examples.decoding import read_picture
from ..models.generation import GenerationRequest
from ..records.store import Result
from ..stopping import heeding
from . import asking, forms, match_view, query, query_view, results_view, view
from .asking import Question, Step, Stopped
from .query import QueryForm
from .scripts import script
from .served import Run, Served
from .theme import html

Updates = dict[gr.components.Component, object]


@dataclass(frozen=True)
class AnswerParts:
    """The components of the page that show an answer."""

    status: gr.HTML
    stop: gr.Button
    tiles: gr.HTML
    more: gr.HTML
    match: gr.HTML
    every: gr.Button  # weighs the images that the answer on show left out
    result: gr.State  # id of the answer on show, or None

    def cleared(self, status: str, running: bool) -> Updates:
        """The page without an answer."""
        empty: Updates = {self.tiles: "", self.match: "", self.more: "", self.result: None}
        buttons: Updates = {self.stop: _stop(visible=running), self.every: gr.update(visible=False)}
        return {**empty, **buttons, self.status: status}


@dataclass(frozen=True)
class Page:
    """What the handlers of the page work with."""

    served: Served
    form: QueryForm
    answer: AnswerParts

    @property
    def outputs(self) -> list[gr.components.Component]:
        form = self.form
        return [form.notice, form.frame, form.picture, form.prompt, form.used_prompt, *vars(self.answer).values()]


def add(served: Served) -> None:
    """Lay the page out in the current Blocks and wire it."""
    html(view.page_title("Which training images made this picture?", _lead(served)))
    cards = html(
        results_view.cards(served.finished.answers, served.url_of), js_on_load=script("finished.js"), elem_id="finished"
    )
    with gr.Row(elem_classes="fi-attribute"):
        with gr.Column(elem_classes="fi-ask"):
            form = query.add(served)
        with gr.Column(elem_classes="fi-answer"):
            with gr.Row(elem_classes="fi-run"):
                status = html(_waiting(served), js_on_load=script("stale.js"), elem_id="status")
                stop = gr.Button("Stop", visible=False, elem_id="stop", min_width=80, scale=0)
            tiles = html(js_on_load=script("choose.js"), elem_id="influences")
            every = gr.Button(
                f"Weigh all {len(served.index.trained):,} images", visible=False, elem_id="weigh-all", size="sm"
            )
            more = html(js_on_load=script("copy.js"), elem_id="more")
        with gr.Column(elem_classes="fi-beside"):
            match = html(js_on_load=script("match.js"), elem_id="chosen")
    page = Page(served, form, AnswerParts(status, stop, tiles, more, match, every, gr.State(None)))
    _wire_asking(page)
    _wire_showing(page, cards)


def _wire_asking(page: Page) -> None:
    served, form, answer = page.served, page.form, page.answer

    def in_line(browser: gr.Request) -> Updates:
        """Said at once, before the queue has come to this question; until it ends, a second one would be lost."""
        waits = results_view.preparing(query.awaiting(served, browser.session_hash))
        return {answer.status: waits, form.find: gr.update(interactive=False)}

    def stop(browser: gr.Request) -> object:
        served.stop(browser.session_hash)
        return gr.update(value="Stopping…", interactive=False)

    def another(browser: gr.Request, sha256: str | None) -> None:
        """An answer that another picture has made pointless is not waited for."""
        served.stop(browser.session_hash, unless=sha256)

    for button, effort in ((form.find, Effort()), (answer.every, None)):
        button.click(fn=None, js=script("show_status.js"))
        button.click(in_line, None, [answer.status, form.find], **query.AT_ONCE).then(
            _finder(page, effort),
            [form.picture, form.prompt, *form.drawing, *form.method],
            page.outputs,
            show_progress="hidden",
            **query.MODEL,
        ).then(lambda: gr.update(interactive=True), None, form.find, **query.AT_ONCE).then(
            fn=None, js=script("show_link.js")
        )
    answer.stop.click(stop, None, answer.stop, **query.AT_ONCE)
    for given in form.given:
        given.then(another, form.picture, None, **query.AT_ONCE)


def _wire_showing(page: Page, cards: gr.HTML) -> None:
    def restore(browser: gr.Request) -> Updates:
        """The answer that the page's address names."""
        result_id = browser.query_params.get("result")
        return _opened(page, browser, result_id) if result_id else {page.form.notice: gr.skip()}

    def open_card(browser: gr.Request, event: gr.EventData) -> Updates:
        page.served.abandon(browser.session_hash)
        return _opened(page, browser, event.id)

    def choose(result_id: str | None, event: gr.EventData) -> object:
        return _chosen(page.served, result_id, event.id)

    gr.on(None, restore, None, page.outputs, **query.AT_ONCE)
    cards.select(open_card, None, page.outputs, **query.AT_ONCE).then(fn=None, js=script("show_link.js"))
    page.answer.tiles.select(choose, page.answer.result, page.answer.match, **query.AT_ONCE)


def _finder(page: Page, effort: Effort | None) -> Callable[..., Iterator[Updates]]:
    served = page.served

    def find(browser: gr.Request, sha256: str | None, text: object, *fields: object) -> Iterator[Updates]:
        visitor, run = browser.session_hash or "", Run(threading.Event(), sha256)
        served.running[visitor] = run
        try:
            for updates in _found(page, visitor, run, effort, text, fields):
                if not run.abandoned:
                    yield updates
        except Exception as error:
            failed = query.told("Not attributed", error)
            yield {page.form.notice: failed, **page.answer.cleared(_waiting(served), running=False)}
        finally:
            if served.running.get(visitor) is run:
                del served.running[visitor]

    return find


def _found(
    page: Page, visitor: str, run: Run, effort: Effort | None, text: object, fields: tuple[object, ...]
) -> Iterator[Updates]:
    """From a filled-in form to its answer, generating one from the prompt where no picture was given."""
    served, form, answer = page.served, page.form, page.answer
    prompt, method = forms.conditioning(text), forms.attribution_method(*fields[3:])
    if not run.sha256 and not prompt.strip():
        raise InvalidRequest("Give a picture first, or say in the prompt what to generate.")
    yield {form.notice: "", **answer.cleared(results_view.preparing(query.WAITING), running=True)}
    yield {form.notice: query.remarks(served, prompt, drawn=False), form.used_prompt: prompt}
    if run.sha256 and (before := asking.answered_before(served, run.sha256, prompt, method, effort)):
        yield _shown(page, before)
        return
    with served.lock:
        if not run.sha256:
            shown = _drawn(page, visitor, run, forms.generation_request(prompt, *fields[:3]))
            yield shown
            if run.sha256 is None:
                return
        kept = served.pictures.read(visitor, run.sha256)
        read = read_picture(kept.data, name=kept.name)
        question = Question(read, kept.data, kept.name, prompt, method, effort, run.stop)
        for step in served.worker.steps(asking.answered(served, question)):
            yield _step(page, step)


def _drawn(page: Page, visitor: str, run: Run, request: GenerationRequest) -> Updates:
    """The page with the picture to ask about, or without any where it was stopped."""
    served, form = page.served, page.form
    try:
        with heeding(run.stop.is_set):
            shown = query.drawn(served, form, visitor, request)
    except StopRequested:
        status = results_view.stopped(0, served.index.count, served.held_out)
        return page.answer.cleared(status, running=False)
    run.sha256 = str(shown[form.picture])
    return shown


def _step(page: Page, step: Step) -> Updates:
    answer = page.answer
    if isinstance(step, Result):
        return _shown(page, step)
    if isinstance(step, Stopped):
        return answer.cleared(step.status, running=False)
    return {answer.status: step.status, **({} if step.tiles is None else {answer.tiles: step.tiles})}


def _stop(visible: bool) -> object:
    """The button that stops a sweep, as it is before it is pressed."""
    return gr.update(value="Stop", interactive=True, visible=visible)


def _shown(page: Page, result: Result) -> Updates:
    """The page with a finished answer; its first image is chosen, unless it is known that none stands out."""
    served, answer = page.served, page.answer
    record, query_url = result.record, query_view.data_url(result.picture)
    first = record.results[0].id if record.results and record.confidence.number_standing_out != 0 else None
    return {
        answer.status: results_view.finished(record, result.id, query_url, result.not_kept),
        answer.stop: _stop(visible=False),
        answer.every: gr.update(visible=record.weighed is not None),
        answer.tiles: results_view.tiles(record, served.url_of, first),
        answer.match: _match(served, result, first) if first else match_view.no_match(record),
        answer.more: results_view.more(record, result.id),
        answer.result: result.id,
    }


def _match(served: Served, result: Result, example_id: str) -> str:
    match = next(match for match in result.record.results if match.id == example_id)
    image, query_url = served.index.catalog.by_id[example_id], query_view.data_url(result.picture)
    return match_view.match(result.record, match, image, query_url, served.url_of(example_id))


def _chosen(served: Served, result_id: str | None, example_id: str) -> object:
    try:
        return _match(served, served.results.load(result_id or ""), example_id)
    except (ForwardInfError, StopIteration, KeyError):
        return gr.skip()


def _opened(page: Page, browser: gr.Request, result_id: str) -> Updates:
    """The page with a kept answer, whose picture can be asked about again."""
    served, form = page.served, page.form
    try:
        result = served.results.load(result_id)
        asked = result.record.query
        if result.record.index.fingerprint != served.index.fingerprint:
            raise IndexMismatch("This answer was made with another index than the one in use. Give the picture again.")
        served.pictures.keep(browser.session_hash, result.original, asked.file_name)
        return {
            form.notice: "",
            form.frame: query_view.kept_picture(result.picture, asked.file_name, asked.sha256, asked.notes),
            form.picture: asked.sha256,
            form.prompt: asked.prompt,
            form.used_prompt: asked.prompt,
            **_shown(page, result),
        }
    except Exception as error:
        return {form.notice: query.told("Not found", error)}


def _waiting(served: Served) -> str:
    trained = len(served.index.trained)
    return results_view.waiting(trained, trained > Effort.at_once)


def _lead(served: Served) -> str:
    return (
        f"Give a picture, or generate one. It is compared with the {len(served.index.trained):,} images that the model "
        "was trained on. The answer names those that stand out and the people who made them, or says that none does."
    )
