"""A page that watches a run: it follows it from wherever it stands, and another page may watch the same one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from ..examples.decoding import read_picture
from ..jobs.queue import Run
from ..models.generation import GenerationRequest
from ..records.keeping import png_of
from . import query, query_view, runs
from .asking import Running
from .showing import Page, Updates, opened, shown, stop_button, waiting
from .view import problem, remark

POLL = 0.2  # seconds between two looks at a run


def watcher(page: Page) -> Callable[[gr.Request, gr.EventData], AsyncIterator[Updates]]:
    """A handler that shows a run until it ends, or until the page shows something else."""

    async def watch(browser: gr.Request, event: gr.EventData) -> AsyncIterator[Updates]:
        visitor, watching = browser.session_hash, page.served.watching
        if watching.get(visitor or "") != event.id:  # what a page may watch was put into it by another handler
            yield {page.form.notice: gr.skip()}
            return
        run = page.served.runs.get(event.id)
        seen = _Seen(page, visitor, run)
        while watching.get(visitor or "") == run.id:
            if updates := await asyncio.to_thread(seen.new, run):
                yield updates
            if run.ended:
                return
            await asyncio.sleep(POLL)

    return watch


class _Seen:
    """What a page has of a run, so that it is only told what is new."""

    def __init__(self, page: Page, visitor: str | None, run: Run[Any]) -> None:
        self.page, self.visitor = page, visitor
        self.status = self.tiles = ""
        self.has_picture = page.served.pictures.has(visitor, run.record.asked.sha256)

    def new(self, run: Run[Any]) -> Updates:
        ended = run.ended  # first, so that what is read after it is the end
        try:
            return self._picture(run) | (self._end(run) if ended else self._progress(run))
        except Exception as error:
            return self._failed(query.told("Not attributed", error))

    def _picture(self, run: Run[Any]) -> Updates:
        """The picture in question, once it is there; drawn by the run, or where the page was opened by its link."""
        served, form, asked = self.page.served, self.page.form, run.record.asked
        original = None if self.has_picture else served.runs.picture(run.id)
        if original is None:
            return {}
        self.has_picture = True
        sha256, name = served.pictures.keep(self.visitor, original, asked.file_name), asked.file_name
        if asked.drawing is not None:
            frame = query_view.drawn_picture(original, sha256, GenerationRequest(**asked.drawing))
        else:
            read = read_picture(original, name=name)
            frame = query_view.given_picture(png_of(read.rgb), name, read)
        return {form.frame: frame, form.picture: sha256}

    def _progress(self, run: Run[Any]) -> Updates:
        now, answer = runs.status_of(self.page.served, run), self.page.answer
        updates: Updates = {}
        if now.status != self.status:
            self.status = updates[answer.status] = now.status
            updates[answer.stop] = gr.skip() if run.stop.is_set() else stop_button(visible=True)
        if isinstance(now, Running) and now.tiles != self.tiles:
            self.tiles = updates[answer.tiles] = now.tiles
        return updates

    def _end(self, run: Run[Any]) -> Updates:
        served = self.page.served
        if run.record.state == "failed":
            return self._failed(problem(run.record.problem, "Not attributed"))
        if run.record.result is None:
            cleared = self.page.answer.cleared(runs.status_of(served, run).status, running=False)
            return {**cleared, self.page.form.find: gr.update(interactive=True)}
        said: Updates = {self.page.form.notice: remark(run.record.remark)} if run.record.remark else {}
        if self.has_picture:
            return {**shown(self.page, served.results.load(run.record.result)), **said}
        # Another question can be asked also where the answer was deleted meanwhile.
        enabled: Updates = {self.page.form.find: gr.update(interactive=True)}
        return {**enabled, **opened(self.page, self.visitor, run.record.result), **said}

    def _failed(self, notice: str) -> Updates:
        form = self.page.form
        cleared = self.page.answer.cleared(waiting(self.page.served), running=False)
        return {**cleared, form.notice: notice, form.find: gr.update(interactive=True)}
