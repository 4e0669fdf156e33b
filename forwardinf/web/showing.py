"""What of an answer the main page shows: its components, and what goes into them."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from ..attribution.shortlist import Effort
from ..errors import ForwardInfError, IndexMismatch
from ..records.csv import matches_in
from ..records.store import Result
from . import match_view, query, query_view, results_view, scatter_view
from .experiments import Experiments
from .query import QueryForm
from .served import Served

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
    again: gr.Button  # answers anew what was answered before
    result: gr.State  # id of the answer on show, or None
    run: gr.State  # id of the run that is watched, or None
    experiments: Experiments

    def cleared(self, status: str, running: bool) -> Updates:
        """The page without an answer."""
        empty: Updates = {self.tiles: "", self.match: "", self.more: "", self.result: None, **self.experiments.of(None)}
        hidden: Updates = dict.fromkeys((self.every, self.again), gr.update(visible=False))
        return {**empty, **hidden, self.stop: stop_button(visible=running), self.status: status}


@dataclass(frozen=True)
class Page:
    """What the handlers of the page work with."""

    served: Served
    form: QueryForm
    answer: AnswerParts

    @property
    def outputs(self) -> list[gr.components.Component]:
        form = self.form
        asked = [form.notice, form.frame, form.picture, form.prompt, form.used_prompt, form.find]
        answer = vars(self.answer) | vars(self.answer.experiments)
        return [*asked, *(part for name, part in answer.items() if name != "experiments")]


def stop_button(visible: bool) -> object:
    """The button that stops a run, as it is before it is pressed."""
    return gr.update(value="Stop", interactive=True, visible=visible)


def waiting(served: Served) -> str:
    """The status of a page that was not asked anything yet."""
    trained = len(served.index.trained)
    return results_view.waiting(trained, trained > Effort.at_once)


def shown(page: Page, result: Result, before: bool = False) -> Updates:
    """The page with a finished answer; its first image is chosen, unless it is known that none stands out.

    One that was kept `before` can be run again.
    """
    served, answer = page.served, page.answer
    record, query_url = result.record, query_view.data_url(result.picture)
    first = record.results[0].id if record.results and record.confidence.number_standing_out != 0 else None
    return {
        page.form.find: gr.update(interactive=True),
        answer.status: results_view.finished(record, result.id, query_url, result.not_kept),
        answer.stop: stop_button(visible=False),
        answer.every: gr.update(visible=record.weighed is not None),
        answer.again: gr.update(visible=before),
        answer.tiles: results_view.tiles(record, served.url_of, first),
        answer.match: _match(served, result, first) if first else match_view.no_match(record),
        answer.more: results_view.more(record, result.id) + _scatter(served, result),
        answer.result: result.id,
        **answer.experiments.of(first),
    }


def chosen(page: Page, result_id: str | None, example_id: str) -> Updates:
    """The match of an image of the answer on show; nothing changes where either is not known."""
    served, answer = page.served, page.answer
    try:
        match = _match(served, served.results.load(result_id or ""), example_id)
        return {answer.match: match, **answer.experiments.of(example_id)}
    except (ForwardInfError, StopIteration, KeyError):
        return {answer.match: gr.skip()}


def opened(page: Page, visitor: str | None, result_id: str) -> Updates:
    """The page with a kept answer, whose picture can be asked about again."""
    served, form = page.served, page.form
    try:
        result = served.results.load(result_id)
        asked = result.record.query
        if result.record.index.fingerprint != served.index.fingerprint:
            raise IndexMismatch("This answer was made with another index than the one in use. Give the picture again.")
        served.pictures.keep(visitor, result.original, asked.file_name)
        return {
            form.notice: "",
            form.frame: query_view.kept_picture(result.picture, asked.file_name, asked.sha256, asked.notes),
            form.picture: asked.sha256,
            form.prompt: asked.prompt,
            form.used_prompt: asked.prompt,
            **shown(page, result),
        }
    except Exception as error:
        return {form.notice: query.told("Not found", error)}


def _scatter(served: Served, result: Result) -> str:
    return scatter_view.scatter(result.record, matches_in(result.csv, served.catalog), served.url_of)


def _match(served: Served, result: Result, example_id: str) -> str:
    """Of an image that the answer lists, or of any that was weighed."""
    listed = next((match for match in result.record.results if match.id == example_id), None)
    match = listed or next(match for match in matches_in(result.csv, served.catalog) if match.id == example_id)
    image, query_url = served.index.catalog.by_id[example_id], query_view.data_url(result.picture)
    return match_view.match(result.record, match, image, query_url, served.url_of(example_id))
