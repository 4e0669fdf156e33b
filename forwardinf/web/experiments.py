"""Beside a match: draw its caption, or the picture's prompt without it, and see what that says of the match."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from PIL import Image

from ..attribution import counterfactual as unlearning
from ..attribution import regeneration
from ..attribution.attributor import Attributor
from ..attribution.counterfactual import counterfactual
from ..attribution.influence_map import InfluenceMaps, influence_maps
from ..attribution.regeneration import regenerated
from ..examples.decoding import read_picture
from ..records.store import Result
from . import experiments_view, query, results_view
from .served import Served
from .theme import html

DRAWN_WITH = re.compile(r"-seed-(\d+)\.png$")  # the name of a picture that was drawn here


@dataclass(frozen=True)
class Experiments:
    """The components that the rest of the page shows, hides and clears."""

    tools: gr.Column
    outcome: gr.HTML
    chosen: gr.State  # id of the training image beside the picture, or None

    def of(self, example_id: str | None) -> dict[Any, object]:
        """The components for another chosen image, or for none."""
        return {self.tools: gr.update(visible=example_id is not None), self.outcome: "", self.chosen: example_id}


def add(served: Served, result: gr.State) -> Experiments:
    """Lay the experiments out in the current Blocks and wire them."""
    chosen = gr.State(None)
    with gr.Column(visible=False, elem_classes="fi-tools") as tools:
        html('<p class="fi-small">Experiments with the model:</p>')
        where = gr.Button("Show where the influence sits", size="sm", elem_id="where")
        again = gr.Button("Draw it from its caption", size="sm", elem_id="regenerate")
        without = gr.Button("Draw the prompt without it", size="sm", elem_id="counterfactual")
        stop = gr.Button("Stop drawing", size="sm", visible=False, elem_id="stop-drawing")
        outcome = html(elem_id="experiment")
    began = []
    for button, steps in ((where, _mapped), (again, _regenerated), (without, _without)):
        button.click(lambda: gr.update(visible=True), None, stop, **query.AT_ONCE)
        event = button.click(_shown(served, steps), [result, chosen], outcome, show_progress="hidden", **query.MODEL)
        event.then(lambda: gr.update(visible=False), None, stop, **query.AT_ONCE)
        began.append(event)
    stop.click(lambda: gr.update(visible=False), None, stop, cancels=began, **query.AT_ONCE)
    return Experiments(tools, outcome, chosen)


Steps = Callable[[Served, Result, str], Iterator[str]]


def _shown(served: Served, steps: Steps) -> Callable[..., Iterator[str]]:
    """A handler that shows each step, or what went wrong."""

    def shown(result_id: str | None, example_id: str | None) -> Iterator[str]:
        try:
            result = served.results.load(result_id or "")
            yield results_view.preparing(query.WAITING)
            with served.lock:
                yield from steps(served, result, example_id or "")
        except Exception as error:
            yield query.told("Not drawn", error)

    return shown


def _mapped(served: Served, result: Result, example_id: str) -> Iterator[str]:
    asked = result.record.query
    picture = read_picture(result.original, name=asked.file_name).rgb

    def found(attributor: Attributor) -> InfluenceMaps:
        query = attributor.query(picture, asked.prompt, asked.sha256)
        return influence_maps(attributor, query, example_id, attributor.default_method)

    maps = served.ask(found)
    thumbnail = served.index.thumbnail_files.read(served.catalog.by_id[example_id].file_name)
    with Image.open(io.BytesIO(thumbnail)) as image:
        yield experiments_view.maps(maps, picture, image.convert("RGB"), served.index.info.fit)


def _regenerated(served: Served, result: Result, example_id: str) -> Iterator[str]:
    def steps() -> Generator[regeneration.Regeneration, None, None]:
        yield from regenerated(served.attributor, example_id, cache=served.drawn)

    yield from map(experiments_view.regeneration, served.worker.steps(steps()))


def _without(served: Served, result: Result, example_id: str) -> Iterator[str]:
    """With the seed that the picture was drawn with first, where that is known."""
    asked = result.record.query
    prompt, known = asked.prompt_used, DRAWN_WITH.search(asked.file_name)
    first = [int(known[1])] if known else []
    seeds = list(dict.fromkeys([*first, *unlearning.SEEDS]))[: len(unlearning.SEEDS)]

    def steps() -> Generator[unlearning.Counterfactual, None, None]:
        yield from counterfactual(served.attributor, prompt, [example_id], seeds)

    yield from map(partial(experiments_view.counterfactual, prompt=prompt), served.worker.steps(steps()))
