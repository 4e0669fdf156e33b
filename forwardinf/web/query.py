"""The left half of the main page: a picture given or drawn, its prompt, and the settings."""

from __future__ import annotations

import io
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ..errors import ForwardInfError, InvalidRequest
from ..examples.catalog import words_of
from ..examples.decoding import Picture, read_picture
from ..methods.forward_inf import ForwardInf
from ..models.generation import MAX_GUIDANCE, MAX_STEPS, GenerationRequest
from . import forms, view
from .served import Served
from .theme import html

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

FAILED = "Something went wrong; the details are in the server’s log."
WAITING = "Waiting for the model…"
IN_LINE = "Someone else’s question is being answered. Yours comes after it…"
# Gradio's file field takes clicks and drops; a pasted picture is handed to it as if it had been dropped.
PASTE = """
document.addEventListener('paste', (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith('image/'));
  const field = document.querySelector('#upload input[type=file]');
  if (!file || !field) return;
  event.preventDefault();
  const carrier = new DataTransfer();
  carrier.items.add(file);
  field.files = carrier.files;
  field.dispatchEvent(new Event('change', { bubbles: true }));
});
"""
AT_ONCE: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
MODEL: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}


@dataclass(frozen=True)
class QueryForm:
    """The components that the rest of the page reads and writes."""

    notice: gr.HTML
    frame: gr.HTML
    file: gr.State  # path of the query's original bytes, or None
    prompt: gr.Textbox
    drawing: tuple[gr.Number, gr.Number, gr.Number]  # seed, steps, guidance
    settings: tuple[gr.components.Component, ...]  # direction, score, loss budget, gradient steps
    find: gr.Button
    used_prompt: gr.State  # what a picture was last drawn from, or asked with, here; None before that
    given: tuple[gr.events.Dependency, ...]  # each ends with another picture in the frame, unless it was refused


def add(served: Served, folder: Path) -> QueryForm:
    """Lay the query out in the current Blocks and wire it; drawn pictures are kept in `folder`."""
    texts = view.examples(served.catalog)
    file, used_prompt = gr.State(None), gr.State(None)
    frame = html(elem_id="picture")
    upload = gr.File(label="Picture: drop, paste or choose one", height=150, elem_id="upload")
    prompt = gr.Textbox(
        label="Prompt",
        info="What it was drawn from, if you know, as that finds more; or what to draw.",
        placeholder=f"For example: {texts[0]}",
        max_lines=3,
        elem_id="prompt",
    )
    with gr.Row(elem_classes="fi-buttons"):
        generate = gr.Button("Generate", elem_id="generate", min_width=100)
        another = gr.Button("Another seed", elem_id="another-seed", min_width=100)
    find = gr.Button("Find influences", variant="primary", elem_id="find")
    notice = html(elem_id="notice")
    chips = _examples(texts)
    drawing, settings = _advanced()
    html(value="<span hidden></span>", js_on_load=PASTE)

    def wait(browser: gr.Request, file: str | None) -> object:
        """Said at once where there is no picture yet, on which progress would show."""
        return gr.skip() if file else view.awaited_picture(awaiting(served, browser.session_hash))

    waits: dict[str, Any] = {"fn": wait, "inputs": file, "outputs": frame, **AT_ONCE}
    draw: dict[str, Any] = {
        "fn": _drawer(served, folder),
        "inputs": [file, prompt, *drawing],
        "outputs": [notice, frame, file, used_prompt],
        "show_progress_on": frame,
        "trigger_mode": "always_last",
        **MODEL,
    }
    given = [
        upload.upload(
            _reader(),
            [upload, prompt, used_prompt],
            [notice, frame, file, upload, prompt],
            show_progress_on=upload,
            api_visibility="private",
        ),
        gr.on([generate.click, prompt.submit], **waits).then(**draw),
        another.click(_new_seed, None, drawing[0], **AT_ONCE).then(**waits).then(**draw),
        *(chip.click(lambda text: text, chip, prompt, **AT_ONCE).then(**waits).then(**draw) for chip in chips),
    ]
    return QueryForm(notice, frame, file, prompt, drawing, settings, find, used_prompt, tuple(given))


def awaiting(served: Served, session: str | None) -> str:
    """What a question waits for, before the queue has come to it."""
    return IN_LINE if served.running.keys() - {session} else WAITING


def read_query(path: str | None) -> tuple[Picture, bytes]:
    """The picture that stands as the query, and its original bytes; raises ForwardInfError where there is none."""
    if not path:
        raise InvalidRequest("There is no picture yet. Drop one, or draw one from a prompt.")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest("The picture is no longer kept here. Give it again.") from error
    return read_picture(data, name=Path(path).name), data


def drawn(
    served: Served,
    folder: Path,
    request: GenerationRequest,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, str]:
    """Draw a picture and keep it in `folder`, under the name that a download would have; its file, and how it shows."""
    start, path = time.perf_counter(), folder / view.file_name(request)
    png = png_of(served.worker.call(served.model.generate, request, on_step))
    path.write_bytes(png)
    return path, view.drawn_picture(png, request, time.perf_counter() - start)


def png_of(picture: Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def answered(outcome: str, error: Exception) -> str:
    """What a visitor is told: our own errors in their words, others by a pointer to the log, where they are written."""
    if isinstance(error, ForwardInfError):
        return view.problem(str(error), outcome)
    log.error("A request failed", exc_info=error)
    return view.problem(FAILED, outcome)


def _reader() -> Callable[..., tuple[object, ...]]:
    def read(path: str, prompt: str | None, used_prompt: str | None) -> tuple[object, ...]:
        try:
            picture, _ = read_query(path)
            # The prompt of a former picture says nothing of this one; one that was only typed may be meant for it.
            kept = "" if prompt == used_prompt else gr.skip()
            return "", view.given_picture(png_of(picture.rgb), Path(path).name, picture), path, None, kept
        except Exception as error:
            return answered("Not read", error), gr.skip(), gr.skip(), None, gr.skip()

    return read


def _drawer(served: Served, folder: Path) -> Callable[..., tuple[object, ...]]:
    def draw(
        file: str | None,
        prompt: object,
        seed: object,
        steps: object,
        guidance: object,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[object, ...]:
        try:
            request = forms.generation_request(prompt, seed, steps, guidance)
            progress(0, desc=WAITING)
            with served.lock:
                path, shown = drawn(
                    served, folder, request, lambda done, total: progress((done, total), desc="Drawing")
                )
            return remarks(served, request.prompt), shown, str(path), prompt
        except Exception as error:
            return answered("Not drawn", error), gr.skip() if file else "", gr.skip(), gr.skip()

    return draw


def remarks(served: Served, prompt: str) -> str:
    known = any(word in served.catalog.words for word in words_of(prompt))
    return view.reading_remarks(served.model.unread_text(prompt), known)


def _examples(texts: list[str]) -> list[gr.Button]:
    html('<p class="fi-small">No picture at hand? Draw one of these.</p>')
    with gr.Row(elem_classes="fi-chips"):
        return [gr.Button(text, size="sm", min_width=0, scale=0, elem_classes="fi-chip") for text in texts]


def _advanced() -> tuple[tuple[gr.Number, gr.Number, gr.Number], tuple[gr.components.Component, ...]]:
    """Numbers without bounds of their own, so that the core's messages are the ones people see."""
    picture, method = GenerationRequest(prompt="defaults"), ForwardInf()
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        html("<h3>Drawing</h3>")
        with gr.Row(elem_classes="fi-numbers"):
            drawing = (
                gr.Number(picture.seed, label="Seed", info="Same seed, same picture.", min_width=100),
                gr.Number(picture.steps, label="Steps", info=f"1 to {MAX_STEPS}.", min_width=100),
                gr.Number(picture.guidance, label="Guidance", info=f"0 to {MAX_GUIDANCE:g}.", min_width=100, step=0.5),
            )
        html("<h3>Attribution</h3>")
        with gr.Row(elem_classes="fi-numbers"):
            settings = (
                gr.Radio(["ascent", "descent"], value=method.direction, label="Direction", min_width=200),
                gr.Dropdown(
                    method.choices("score"), value=method.score, label="Score", filterable=False, min_width=140
                ),
                gr.Number(method.loss_budget, label="Loss budget", info="Relative change.", min_width=120, step=0.05),
                gr.Number(method.steps, label="Gradient steps", info="1 to 100.", min_width=120),
            )
    return drawing, settings


def _new_seed() -> int:
    return random.SystemRandom().randrange(1_000_000)  # short enough to read out
