"""The form of the main page: a picture given or generated, its prompt, and the settings."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import ForwardInfError
from ..examples.catalog import words_of
from ..examples.decoding import read_picture
from ..examples.provenance.generation import Generation
from ..jobs.queue import WENT_WRONG
from ..methods import settings
from ..methods.forward_inf import ForwardInf
from ..models.generation import MAX_GUIDANCE, MAX_PROMPT, MAX_STEPS, GenerationRequest
from ..records.keeping import png_of
from ..records.origin import searched
from ..records.reading import reading_notes
from . import forms, query_view, view
from .scripts import script
from .served import Served
from .theme import html

log = logging.getLogger(__name__)

WAITING = "Waiting for the model…"
IN_LINE = "A question is being answered. The picture is drawn after it…"
OTHER_SETTINGS = "With other values than these the index has no null distribution, so there is no verdict."
AT_ONCE: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
MODEL: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}


@dataclass(frozen=True)
class QueryForm:
    """The components that the rest of the page reads and writes."""

    notice: gr.HTML
    frame: gr.HTML
    picture: gr.State  # SHA-256 of the picture in question, or None
    prompt: gr.Textbox
    drawing: tuple[gr.Number, gr.Number, gr.Number]  # seed, steps, guidance
    method: tuple[gr.components.Component, ...]  # direction, score, loss budget, gradient steps
    find: gr.Button
    used_prompt: gr.State  # what a picture was last generated from, or attributed with, here; None before that
    given: tuple[gr.events.Dependency, ...]  # each ends with another picture in the frame, unless it was refused


def add(served: Served) -> QueryForm:
    """Lay the form out in the current Blocks and wire it."""
    texts = query_view.examples(served.catalog)
    picture, used_prompt = gr.State(None), gr.State(None)
    html(
        '<button type="button" class="fi-again" aria-expanded="false">Ask about another picture</button>',
        js_on_load=script("again.js"),
    )
    frame = html(elem_id="picture")
    upload = gr.File(label="Picture: drop, paste or choose one", height=150, elem_id="upload")
    prompt = gr.Textbox(
        label="Prompt",
        info="What the picture was generated from, if you know it; or what to generate.",
        placeholder=f"For example: {texts[0]}" if texts else "",
        max_lines=3,
        elem_id="prompt",
    )
    with gr.Row(elem_classes="fi-buttons"):
        generate = gr.Button("Generate", elem_id="generate", min_width=100)
        another = gr.Button("Another seed", elem_id="another-seed", min_width=100)
    find = gr.Button("Find influences", variant="primary", elem_id="find")
    notice = html(elem_id="notice")
    chips = _examples(texts)
    drawing, method = _advanced()
    html(value="<span hidden></span>", js_on_load=script("paste.js"))
    form = QueryForm(notice, frame, picture, prompt, drawing, method, find, used_prompt, ())
    given = (_wire_upload(served, form, upload), *_wire_drawing(served, form, generate, another, chips))
    return QueryForm(**{**vars(form), "given": given})


def _wire_upload(served: Served, form: QueryForm, upload: gr.File) -> gr.events.Dependency:
    def read(browser: gr.Request, path: str, prompt: str | None, used_prompt: str | None) -> dict[Any, object]:
        try:
            data, name = Path(path).read_bytes(), Path(path).name
            given = read_picture(data, name=name)
            sha256 = served.pictures.keep(browser.session_hash, data, name)
            stated, unread = searched(data)
            shown = query_view.given_picture(png_of(given.rgb), name, given, stated, unread)
            offered = _offered(form, stated, prompt, used_prompt)
            return {upload: None, form.notice: "", form.frame: shown, form.picture: sha256, **offered}
        except Exception as error:
            return {upload: None, form.notice: told("Not read", error)}

    return upload.upload(
        read,
        [upload, form.prompt, form.used_prompt],
        [upload, form.notice, form.frame, form.picture, form.prompt, form.used_prompt],
        show_progress_on=upload,
        api_visibility="private",
    )


def _offered(
    form: QueryForm, stated: Generation | None, prompt: str | None, used_prompt: str | None
) -> dict[Any, object]:
    """The prompt field for another picture: the prompt in its file, unless one was typed.

    The prompt of a former picture says nothing of this one; one that was only typed may be meant for it.
    """
    if prompt and prompt != used_prompt:
        return {}
    text = stated.shortened(MAX_PROMPT).prompt if stated else ""
    return {form.prompt: text, form.used_prompt: text}


def _wire_drawing(
    served: Served, form: QueryForm, generate: gr.Button, another: gr.Button, chips: list[gr.Button]
) -> list[gr.events.Dependency]:
    def wait(sha256: str | None) -> object:
        """Said at once where there is no picture yet, on which progress would show."""
        return gr.skip() if sha256 else query_view.awaited_picture(IN_LINE if served.runs.busy else WAITING)

    waits: dict[str, Any] = {"fn": wait, "inputs": form.picture, "outputs": form.frame, **AT_ONCE}
    draw: dict[str, Any] = {
        "fn": _drawer(served, form),
        "inputs": [form.picture, form.prompt, *form.drawing],
        "outputs": [form.notice, form.frame, form.picture, form.used_prompt],
        "show_progress_on": form.frame,
        "trigger_mode": "always_last",
        **MODEL,
    }
    return [
        gr.on([generate.click, form.prompt.submit], **waits).then(**draw),
        another.click(_new_seed, None, form.drawing[0], **AT_ONCE).then(**waits).then(**draw),
        *(chip.click(lambda text: text, chip, form.prompt, **AT_ONCE).then(**waits).then(**draw) for chip in chips),
    ]


def _drawer(served: Served, form: QueryForm) -> Callable[..., dict[Any, object]]:
    def draw(
        browser: gr.Request,
        sha256: str | None,
        prompt: object,
        seed: object,
        steps: object,
        guidance: object,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> dict[Any, object]:
        try:
            request = forms.generation_request(prompt, seed, steps, guidance)
            progress(0, desc=IN_LINE if served.runs.busy else WAITING)
            with served.lock:
                shown = drawn(served, form, browser.session_hash, request, progress)
            return {**shown, form.notice: remarks(served, request.prompt), form.used_prompt: request.prompt}
        except Exception as error:
            frame = {} if sha256 else {form.frame: ""}
            return {form.notice: told("Not generated", error), **frame}

    return draw


def drawn(
    served: Served,
    form: QueryForm,
    visitor: str | None,
    request: GenerationRequest,
    progress: gr.Progress | None = None,
) -> dict[Any, object]:
    """Generate a picture and keep it for the visitor; the picture's SHA-256, and how it shows."""
    start = time.perf_counter()

    def on_step(done: int, total: int) -> None:
        if progress is not None:
            progress((done, total), desc="Generating")

    png = png_of(served.ask(lambda attributor: attributor.model.generate(request, on_step)))
    sha256 = served.pictures.keep(visitor, png, query_view.file_name(request))
    return {
        form.picture: sha256,
        form.frame: query_view.drawn_picture(png, sha256, request, time.perf_counter() - start),
    }


def remarks(served: Served, prompt: str, drawn: bool = True) -> str:
    """How much of a prompt the model can make sense of; empty where there is nothing to say.

    That it knows no word of it matters where a picture is generated from it.
    """
    known = not drawn or any(word in served.catalog.words for word in words_of(prompt))
    return view.reading_remarks(served.ask(lambda attributor: reading_notes(attributor.model, prompt)), known)


def told(outcome: str, error: Exception) -> str:
    """What a visitor is told: our own errors in their words, others by a pointer to the log, where they are written."""
    if isinstance(error, ForwardInfError):
        return view.problem(str(error), outcome)
    log.error("A request failed", exc_info=error)
    return view.problem(WENT_WRONG, outcome)


def _examples(texts: list[str]) -> list[gr.Button]:
    html('<p class="fi-small">No picture at hand? Generate one of these.</p>')
    with gr.Row(elem_classes="fi-chips"):
        return [gr.Button(text, size="sm", min_width=0, scale=0, elem_classes="fi-chip") for text in texts]


def _advanced() -> tuple[tuple[gr.Number, gr.Number, gr.Number], tuple[gr.components.Component, ...]]:
    """Numbers without bounds of their own, so that the core's messages are the ones people see."""
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        return _drawing_settings(), _method_settings()


def _drawing_settings() -> tuple[gr.Number, gr.Number, gr.Number]:
    default = GenerationRequest(prompt="defaults")
    html("<h3>Generation</h3>")
    with gr.Row(elem_classes="fi-numbers"):
        return (
            gr.Number(default.seed, label="Seed", info="The same seed gives the same picture.", min_width=100),
            gr.Number(
                default.steps,
                label="Steps",
                info=f"1 to {MAX_STEPS}. More steps take longer and give finer pictures.",
                min_width=100,
            ),
            gr.Number(
                default.guidance,
                label="Guidance",
                info=f"0 to {MAX_GUIDANCE:g}. How closely the picture follows the prompt.",
                min_width=100,
                step=0.5,
            ),
        )


def _method_settings() -> tuple[gr.components.Component, ...]:
    default = ForwardInf()
    html(f'<h3>Attribution</h3><p class="fi-small">{OTHER_SETTINGS}</p>')
    with gr.Row(elem_classes="fi-numbers"):
        return (
            gr.Radio(
                default.choices("direction"),
                value=default.direction,
                label="Direction",
                info=_explained(settings.Direction),
                min_width=200,
            ),
            gr.Dropdown(
                default.choices("score"),
                value=default.score,
                label="Change of loss",
                info=_explained(settings.Score),
                filterable=False,
                min_width=140,
            ),
            gr.Number(
                default.loss_budget,
                label="Loss budget",
                info=_explained(settings.LossBudget),
                min_width=120,
                step=0.05,
            ),
            gr.Number(default.steps, label="Gradient steps", info=_explained(settings.Steps), min_width=120),
        )


def _explained(setting: Any) -> str:  # noqa: ANN401  # an Annotated type
    """A setting's help text as a sentence."""
    text = settings.help_of(setting)
    return f"{text[:1].upper()}{text[1:]}."


def _new_seed() -> int:
    return random.SystemRandom().randrange(1_000_000)  # short enough to read out
