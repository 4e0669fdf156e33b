"""The main page: a picture in, the training images that are estimated to have shaped it most out."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from ..attribution.shortlist import Effort
from ..errors import InvalidRequest
from ..models.generation import GenerationRequest
from . import asking, experiments, forms, query, results_view, runs, view
from .guard import for_viewers
from .runs import Given
from .scripts import script
from .served import Served
from .showing import AnswerParts, Page, Updates, chosen, opened, shown, waiting
from .theme import html
from .watching import watcher


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
                status = html(waiting(served), js_on_load=script("answer.js"), elem_id="status")
                stop = gr.Button("Stop", visible=False, elem_id="stop", min_width=80, scale=0)
            tiles = html(js_on_load=script("choose.js"), elem_id="influences")
            every = gr.Button(
                f"Weigh all {len(served.index.trained):,} images", visible=False, elem_id="weigh-all", size="sm"
            )
            again = gr.Button("Run again", visible=False, elem_id="run-again", size="sm")
            more = html(js_on_load=script("copy.js") + script("choose.js"), elem_id="more")
        with gr.Column(elem_classes="fi-beside"):
            match, result = html(js_on_load=script("match.js"), elem_id="chosen"), gr.State(None)
            tests = experiments.add(served, result)
    page = Page(
        served, form, AnswerParts(status, stop, tiles, more, match, every, again, result, gr.State(None), tests)
    )
    _wire_asking(page)
    _wire_showing(page, cards)


def _wire_asking(page: Page) -> None:
    served, form, answer = page.served, page.form, page.answer

    def stop(run_id: str | None) -> object:
        if run_id is not None:
            served.runs.stop(run_id)
        return gr.update(value="Stopping…", interactive=False)

    def another(sha256: str | None, run_id: str | None) -> None:
        """An answer that another picture has made pointless is not waited for."""
        if run_id is not None and served.runs.get(run_id).record.asked.sha256 != sha256:
            served.runs.stop(run_id)

    def as_before(result_id: str | None) -> Effort | None:
        weighed = served.results.load(result_id or "").record.weighed
        return Effort.to_decide(weighed.first) if weighed else None

    find, every = _asker(page, lambda _: Effort()), _asker(page, lambda _: None)
    for button, ask in ((form.find, find), (answer.every, every), (answer.again, _asker(page, as_before, again=True))):
        button.click(fn=None, js=script("show_status.js"))
        asked = button.click(
            ask,
            [answer.result, form.picture, form.prompt, *form.drawing, *form.method],
            page.outputs,
            **query.AT_ONCE,
        )
        asked.then(_remark(page), [form.prompt, answer.run, answer.result], form.notice, **query.AT_ONCE)
    # A page watches when a run shows in it, not at every load: Gradio loses an event that is sent as a stream ends.
    answer.status.select(
        for_viewers(watcher(page)),
        None,
        page.outputs,
        concurrency_limit=None,
        trigger_mode="multiple",
        show_progress="hidden",
        api_visibility="private",
    )
    answer.stop.click(stop, answer.run, answer.stop, **query.AT_ONCE)
    for given in form.given:
        given.then(another, [form.picture, answer.run], None, **query.AT_ONCE)


def _wire_showing(page: Page, cards: gr.HTML) -> None:
    served = page.served

    @for_viewers
    def restore(browser: gr.Request) -> Updates:
        """The answer, or the run, that the page's address names."""
        result_id, run_id = (browser.query_params.get(name) for name in ("result", "run"))
        if result_id:
            return opened(page, browser.session_hash, result_id)
        return _watched(page, browser.session_hash, run_id) if run_id else {page.form.notice: gr.skip()}

    @for_viewers
    def open_card(browser: gr.Request, event: gr.EventData) -> Updates:
        served.watching[browser.session_hash or ""] = None
        return {page.answer.run: None, **opened(page, browser.session_hash, event.id)}

    @for_viewers
    def choose(result_id: str | None, event: gr.EventData) -> Updates:
        return chosen(page, result_id, event.id)

    gr.on(None, restore, None, page.outputs, **query.AT_ONCE)
    cards.select(open_card, None, page.outputs, **query.AT_ONCE)
    for images in (page.answer.tiles, page.answer.more):
        images.select(choose, page.answer.result, page.outputs, **query.AT_ONCE)


def _asker(page: Page, effort_of: Callable[[str | None], Effort | None], again: bool = False) -> Callable[..., Updates]:
    """A handler that answers at once what was asked before, unless `again`, and puts all else in line.

    `effort_of` says which effort that takes, from the id of the answer on show.
    """
    served, form, answer = page.served, page.form, page.answer

    def ask(browser: gr.Request, result_id: str | None, sha256: str | None, text: object, *fields: object) -> Updates:
        visitor = browser.session_hash
        try:
            effort = effort_of(result_id)
            prompt, method = forms.conditioning(text), forms.attribution_method(page.served.method, *fields[3:])
            picture = _picture(served, visitor, sha256, prompt, fields[:3])
            clean: Updates = {form.notice: "", form.used_prompt: prompt}
            if not again and isinstance(picture, Given):
                before = asking.answered_before(served, picture.sha256, prompt, method, effort)
                if before:
                    return {**clean, answer.run: None, **shown(page, before, before=True)}
            run = runs.ask(served, picture, prompt, method, effort, again)
            served.watching[visitor or ""] = run.id
            status = runs.status_of(served, run).status
            return {
                **clean,
                **answer.cleared(status, True),
                form.find: gr.update(interactive=False),
                answer.run: run.id,
            }
        except Exception as error:
            failed = query.told("Not attributed", error)
            return {form.notice: failed, answer.run: None, **answer.cleared(waiting(served), running=False)}

    return ask


def _picture(
    served: Served, visitor: str | None, sha256: str | None, prompt: str, drawing: tuple[object, ...]
) -> Given | GenerationRequest:
    """The picture to ask about, or what to generate where none was given."""
    if sha256:
        kept = served.pictures.read(visitor, sha256)
        return Given(sha256, kept.name, kept.data)
    if not prompt.strip():
        raise InvalidRequest("Give a picture first, or say in the prompt what to generate.")
    return forms.generation_request(prompt, *drawing)


def _remark(page: Page) -> Callable[[object, str | None, str | None], object]:
    """A handler that says how much of the prompt of a question is read; it waits for the model."""

    def remark(text: object, run_id: str | None, result_id: str | None) -> object:
        asked = run_id or result_id
        return query.remarks(page.served, forms.conditioning(text), drawn=False) if asked else gr.skip()

    return remark


def _watched(page: Page, visitor: str | None, run_id: str) -> Updates:
    """The page of a run that was asked in another, or before the page was loaded anew."""
    form, answer = page.form, page.answer
    try:
        prompt = page.served.runs.get(run_id).record.asked.prompt
    except Exception as error:
        return {form.notice: query.told("Not found", error)}
    page.served.watching[visitor or ""] = run_id
    status = results_view.of_run(run_id, results_view.preparing(runs.WAITING))
    asked: Updates = {form.prompt: prompt, form.used_prompt: prompt, form.find: gr.update(interactive=False)}
    return {**asked, **answer.cleared(status, running=True), answer.run: run_id}


def _lead(served: Served) -> str:
    return (
        f"Give a picture, or generate one. It is compared with the {len(served.index.trained):,} images that the model "
        "was trained on. The answer names those that stand out and the people who made them, or says that none does."
    )
