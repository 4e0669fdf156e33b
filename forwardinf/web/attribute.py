"""The main page: a picture in, the training images that are estimated to have shaped it most out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from ..attribution.answer import answer_of
from ..errors import ForwardInfError, IndexMismatch, InvalidRequest
from ..examples.catalog import TrainingImage
from ..examples.decoding import to_square
from ..methods.forward_inf import ForwardInf
from ..records.csv import as_csv
from ..records.recording import matches_of, record_of
from ..records.store import Result
from . import forms, query, results_view, theme, view
from .query import QueryForm
from .served import Served
from .theme import html

TOP = 20
REFRESH = 0.5  # seconds between two looks at a running sweep
REDRAW = 2.0  # seconds between two galleries, which take the browser far longer to draw than the rest
QUERY_SIDE = 384  # pixels, of the query that a result keeps to be looked at
Updates = dict[gr.components.Component, object]
CHOOSE = """
element.addEventListener('click', (event) => {
  const tile = event.target.closest('[data-id]');
  if (!tile || !document.querySelector('[data-result]')) return;
  element.querySelectorAll('[aria-pressed]').forEach((other) => other.removeAttribute('aria-pressed'));
  tile.setAttribute('aria-pressed', 'true');
  trigger('select', { id: tile.dataset.id });
});
"""
COPY = """
element.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-copy]');
  if (!button) return;
  const link = new URL(button.dataset.copy, document.baseURI).href;
  try { await navigator.clipboard.writeText(link); button.textContent = 'Link copied'; }
  catch { prompt('The link to this result', link); }
});
"""
# On a phone the answer lies below the question, and on a low screen it may have scrolled away.
LOOK = """() => {
  const phone = matchMedia('(max-width: 720px)').matches;
  document.querySelector('#status').scrollIntoView({ block: phone ? 'start' : 'nearest' });
}"""
# The address bar then is the link to the result, if one is on show.
SHOW_LINK = """() => {
  const done = document.querySelector('[data-result]');
  history.replaceState(null, '', done ? `?result=${done.dataset.result}` : location.pathname);
}"""
# What was chosen lies below the tiles.
SHOW_CHOSEN = """() => {
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  document.querySelector('#chosen').scrollIntoView({ block: 'nearest', behavior: still ? 'auto' : 'smooth' });
}"""


@dataclass(frozen=True)
class Answer:
    """The right half of the page."""

    status: gr.HTML
    stop: gr.Button
    tiles: gr.HTML
    chosen: gr.HTML
    more: gr.HTML
    result: gr.State  # id of the result on show, or None
    asked: gr.State  # path of the picture that the answer is, or will be, of; None where there is no answer

    def cleared(self, status: str, running: bool) -> Updates:
        """The page without a result."""
        empty: Updates = {self.tiles: "", self.chosen: "", self.more: "", self.result: None}
        return {**empty, self.status: status, self.stop: _stop(visible=running)}


def add(served: Served) -> None:
    """Lay the page out in the current Blocks and wire it."""
    folder = served.folder / "drawn"
    folder.mkdir()
    html(view.page_title("Which training images made this picture?", _lead(served)))
    with gr.Row(elem_classes="fi-attribute"):
        with gr.Column(elem_classes="fi-ask"):
            form = query.add(served, folder)
        with gr.Column(elem_classes="fi-answer"):
            with gr.Row(elem_classes="fi-run"):
                status = html(results_view.waiting(), elem_id="status")
                stop = gr.Button("Stop", visible=False, elem_id="stop", min_width=80, scale=0)
            tiles = html(js_on_load=CHOOSE, elem_id="influences")
            chosen = html(elem_id="chosen")
            more = html(js_on_load=COPY, elem_id="more")
    answer = Answer(status, stop, tiles, chosen, more, gr.State(None), gr.State(None))
    _wire(served, form, answer, folder)


def _wire(served: Served, form: QueryForm, answer: Answer, folder: Path) -> None:
    def in_line(browser: gr.Request) -> Updates:
        """Said at once, before the queue has come to this question; until it ends, a second one would be lost."""
        waits = results_view.preparing(query.awaiting(served, browser.session_hash))
        return {answer.status: waits, form.find: gr.update(interactive=False)}

    outputs = [form.notice, form.frame, form.file, form.prompt, form.used_prompt, *vars(answer).values()]
    form.find.click(fn=None, js=LOOK)
    form.find.click(in_line, None, [answer.status, form.find], **query.AT_ONCE).then(
        _finder(served, form, answer, folder),
        [form.file, form.prompt, *form.drawing, *form.settings],
        outputs,
        show_progress="hidden",
        **query.MODEL,
    ).then(lambda: gr.update(interactive=True), None, form.find, **query.AT_ONCE).then(fn=None, js=SHOW_LINK)

    def stop(browser: gr.Request) -> object:
        served.stop(browser.session_hash)
        return gr.update(value="Stopping…", interactive=False)

    def outdated(browser: gr.Request, file: str | None, asked: str | None) -> Updates:
        """An answer beside another picture would be taken for that one's."""
        if asked is None or file == asked:
            return {answer.asked: asked}
        served.stop(browser.session_hash)
        return {**answer.cleared(results_view.waiting(), running=False), answer.asked: None}

    def choose(result_id: str | None, event: gr.EventData) -> object:
        return _choose(served, result_id, event.id)

    def restore(browser: gr.Request) -> Updates:
        return _restored(served, form, answer, browser.query_params.get("result"))

    answer.stop.click(stop, None, answer.stop, **query.AT_ONCE)
    answer.tiles.select(choose, answer.result, answer.chosen, **query.AT_ONCE).then(fn=None, js=SHOW_CHOSEN)
    for given in form.given:
        given.then(outdated, [form.file, answer.asked], list(vars(answer).values()), **query.AT_ONCE).then(
            fn=None, js=SHOW_LINK
        )
    gr.on(None, restore, None, outputs, **query.AT_ONCE)


def _finder(served: Served, form: QueryForm, answer: Answer, folder: Path) -> Callable[..., Iterator[Updates]]:
    def find(browser: gr.Request, file: str | None, text: object, *fields: object) -> Iterator[Updates]:
        session, stop = browser.session_hash or "", threading.Event()
        served.running[session] = stop
        try:
            prompt, method = forms.conditioning(text), forms.attribution_method(*fields[3:])
            if not file and not prompt.strip():
                raise InvalidRequest("Give a picture first, or say in the prompt what to draw.")
            yield {
                form.notice: "",
                answer.asked: file,
                **answer.cleared(results_view.preparing(query.WAITING), running=True),
            }
            told = view.reading_remarks(served.model.unread_text(prompt), knows_a_word=True)
            yield {form.notice: told, form.used_prompt: prompt}
            with served.lock:
                if not file:
                    wanted = forms.generation_request(prompt, *fields[:3])
                    path, shown = query.drawn(served, folder, wanted)
                    file = str(path)
                    yield {form.frame: shown, form.file: file, answer.asked: file}
                yield from served.worker.steps(_found(served, answer, file, prompt, method, stop))
        except Exception as error:
            told = query.answered("Not attributed", error)
            yield {form.notice: told, answer.asked: None, **answer.cleared(results_view.waiting(), running=False)}
        finally:
            served.running.pop(session, None)

    return find


def _found(
    served: Served, answer: Answer, file: str, prompt: str, method: ForwardInf, stop: threading.Event
) -> Generator[Updates, None, None]:
    """One attribution from the query's file to its kept result; the model must be ours alone meanwhile."""
    picture, original = query.read_query(file)
    start, held_out = time.perf_counter(), served.index.count - len(served.index.trained)
    asked = served.attributor.query(picture.rgb, prompt, picture.sha256)
    yield {answer.status: results_view.preparing("Taking gradient steps on the picture…")}
    if stop.is_set():
        yield answer.cleared(results_view.stopped(0, served.index.count, held_out), running=False)
        return
    looked = drawn = 0.0
    # Closed, so that the model is as it was before anyone else may use it, however this ends.
    with closing(served.attributor.follow(asked, method)) as follow:
        for now in follow:
            if stop.is_set():
                break
            if now.done == now.total or time.perf_counter() - looked < REFRESH:
                continue
            looked = time.perf_counter()
            so_far: Updates = {
                answer.status: results_view.progress(now.done, now.total, held_out, now.rate, now.seconds_left)
            }
            if looked - drawn >= REDRAW:
                drawn = looked
                best, images = now.scores().top(TOP), _images(served)
                so_far[answer.tiles] = results_view.so_far(now.done / now.total, best, images, _url_of(served))
            yield so_far
    if now.done < now.total:
        yield answer.cleared(results_view.stopped(now.done, now.total, held_out), running=False)
        return
    found, seconds = answer_of(served.attributor, asked, method, now), round(time.perf_counter() - start, 1)
    record = record_of(found, served.index, TOP, notes=picture.notes, file_name=Path(file).name, seconds=seconds)
    shown = query.png_of(to_square(picture.rgb, QUERY_SIDE))
    result = served.results.save(record, as_csv(record, matches_of(found, served.index.catalog)), original, shown)
    yield _shown(served, answer, result)


def _stop(visible: bool) -> object:
    """The button that stops a sweep, as it is before it is pressed."""
    return gr.update(value="Stop", interactive=True, visible=visible)


def _shown(served: Served, answer: Answer, result: Result) -> Updates:
    """The page with a finished result, its first image chosen."""
    record, first = result.record, result.record.results[0].id
    return {
        answer.status: results_view.finished(record, result.id),
        answer.stop: _stop(visible=False),
        answer.tiles: results_view.answer(record, _images(served), _url_of(served), first),
        answer.chosen: _detail(served, result, first),
        answer.more: results_view.credits(record, served.index.catalog)
        + results_view.keep(result.id)
        + results_view.whole_groups(record)
        + results_view.reproduced_by(record),
        answer.result: result.id,
    }


def _detail(served: Served, result: Result, example_id: str) -> str:
    row = next(row for row in result.record.results if row.id == example_id)
    image = _images(served)[example_id]
    query_url = view.data_url(result.picture)
    return results_view.detail(row, image, query_url, _url_of(served)(image))


def _choose(served: Served, result_id: str | None, example_id: str) -> object:
    try:
        return _detail(served, served.results.load(result_id or ""), example_id)
    except (ForwardInfError, StopIteration, KeyError):
        return gr.skip()


def _restored(served: Served, form: QueryForm, answer: Answer, result_id: str | None) -> Updates:
    """The result that the page's address names."""
    if not result_id:
        return {form.notice: gr.skip()}
    try:
        result = served.results.load(result_id)
        record, index = result.record, served.index
        original = result.original_path and str(result.original_path)
        if record.index.fingerprint != index.fingerprint:
            raise IndexMismatch("This result was made with another index than the one in use. Give the picture again.")
        return {
            form.frame: view.kept_picture(result.picture, record),
            form.file: original,
            form.prompt: record.query.prompt,
            form.used_prompt: record.query.prompt,
            answer.asked: original,
            **_shown(served, answer, result),
        }
    except Exception as error:
        return {form.notice: query.answered("Not found", error)}


def _images(served: Served) -> dict[str, TrainingImage]:
    return served.index.catalog.by_id


def _url_of(served: Served) -> Callable[[TrainingImage], str]:
    return lambda image: theme.url_of(served.index.catalog.path_of(image))


def _lead(served: Served) -> str:
    count = len(served.index.trained)
    return (
        f"Give a picture, or draw one. All {count:,} images that the model learned from are weighed against it, and "
        "those that are estimated to have shaped it most come first, with the names of the people who made them."
    )
