"""The page that draws a picture from a prompt."""

from __future__ import annotations

import io
import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from ..errors import ForwardInfError
from ..generation import MAX_GUIDANCE, MAX_STEPS, GenerationRequest
from ..index.catalog import words_of
from . import forms, view
from .served import Served
from .theme import html

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

FAILED = "Something went wrong while drawing; the details are in the server’s log."


def add(served: Served) -> None:
    """Lay the page out in the current Blocks and wire it."""
    texts = view.examples(served.catalog)
    html(view.page_title("Draw a picture", _lead(served.model.picture_size)))
    with gr.Row(elem_classes="fi-draw"):
        with gr.Column(elem_classes="fi-ask"):
            prompt = gr.Textbox(label="Prompt", placeholder=f"For example: {texts[0]}", max_lines=3, elem_id="prompt")
            with gr.Row(elem_classes="fi-buttons"):
                generate = gr.Button("Generate", variant="primary", elem_id="generate", min_width=120)
                another = gr.Button("Another seed", elem_id="another-seed", min_width=120)
        with gr.Column(elem_classes="fi-answer"):
            notice = html(elem_id="notice")
            picture = html(view.empty_frame(), elem_id="picture")
            html(view.provenance(served.catalog, "training-set"))
        with gr.Column(elem_classes="fi-more"):
            chips = _examples(texts)
            seed, steps, guidance = _advanced()

    drawing: dict[str, Any] = {
        "fn": _drawer(served),
        "inputs": [prompt, seed, steps, guidance],
        "outputs": [notice, picture],
        "show_progress_on": picture,
        "concurrency_limit": 1,
        "concurrency_id": "model",
        "api_visibility": "private",
    }
    at_once: dict[str, Any] = {"queue": False, "api_visibility": "private"}
    gr.on([generate.click, prompt.submit], **drawing)
    another.click(_new_seed, None, seed, **at_once).then(**drawing)
    for chip in chips:
        chip.click(lambda text: text, chip, prompt, **at_once).then(**drawing)


def _drawer(served: Served) -> Callable[..., tuple[str, object]]:
    def draw(
        prompt: object,
        seed: object,
        steps: object,
        guidance: object,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str, object]:
        try:
            request = forms.generation_request(prompt, seed, steps, guidance)
            with served.lock:
                start = time.perf_counter()
                unread = served.model.unread_text(request.prompt)
                picture = served.model.generate(request, lambda done, total: progress((done, total), desc="Drawing"))
            shown = view.drawn_picture(_png(picture), request, time.perf_counter() - start)
            known = any(word in served.catalog.words for word in words_of(request.prompt))
            return view.reading_remarks(unread, known), shown
        except ForwardInfError as error:
            return view.problem(str(error)), gr.skip()
        except Exception:
            log.exception("Drawing failed")
            return view.problem(FAILED), gr.skip()

    return draw


def _lead(size: int) -> str:
    return (
        f"Name an emoji and a style. The pictures are {size} by {size} pixels: small enough to be drawn here, "
        "on the spot, by a model whose training set is all on show."
    )


def _examples(texts: list[str]) -> list[gr.Button]:
    html('<p class="fi-small">Or draw one of these</p>')
    with gr.Row(elem_classes="fi-chips"):
        return [gr.Button(text, size="sm", min_width=0, scale=0, elem_classes="fi-chip") for text in texts]


def _advanced() -> tuple[gr.Number, gr.Number, gr.Number]:
    """Numbers without bounds of their own, so that GenerationRequest's messages are the ones people see."""
    default = GenerationRequest(prompt="defaults")
    with gr.Accordion("Advanced", open=False, elem_id="advanced"), gr.Row(elem_classes="fi-numbers"):
        seed = gr.Number(
            default.seed,
            label="Seed",
            info="Same seed, same picture.",
            elem_id="seed",
            min_width=140,
        )
        steps = gr.Number(
            default.steps, label="Steps", info=f"1 to {MAX_STEPS}; more is slower.", elem_id="steps", min_width=140
        )
        guidance = gr.Number(
            default.guidance,
            label="Guidance",
            info=f"0 to {MAX_GUIDANCE:g}; higher is stricter.",
            elem_id="guidance",
            min_width=140,
            step=0.5,
        )
    return seed, steps, guidance


def _new_seed() -> int:
    return random.SystemRandom().randrange(1_000_000)  # short enough to read out


def _png(picture: Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
