"""What programs may call: the app's REST endpoints, which Gradio describes by OpenAPI and offers as MCP tools.

curl -X POST …/gradio_api/call/search_training_set -d '{"data": ["apple"]}'
Client("http://127.0.0.1:7860").predict(picture=handle_file("apple.png"), prompt="red apple", api_name="/attribute")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from ..attribution.shortlist import Effort
from ..errors import ForwardInfError, InvalidRequest
from ..examples.catalog import TrainingImage
from ..examples.decoding import read_picture
from ..models.generation import GenerationRequest
from ..records.keeping import png_of
from ..records.reading import reading_notes
from ..review.cases import Case
from . import asking, forms, query_view, runs
from .guard import for_viewers
from .runs import Given
from .served import Served

Arguments = ParamSpec("Arguments")
Outcome = TypeVar("Outcome")
MOST_FOUND = 200  # training images in one answer to a search
PUBLIC: dict[str, Any] = {"show_progress": "hidden"}


def add(served: Served, list_cases: Callable[[], Sequence[Case]]) -> None:
    """Offer the endpoints, in components that no page shows."""
    example = next(iter(query_view.examples(served.catalog, 1)), "red apple")
    with gr.Column(visible=False):
        picture, known = gr.File(label="picture"), gr.Textbox(label="prompt")
        whole, run = gr.Checkbox(label="weigh_all"), gr.JSON(label="run")
        prompt, guidance = gr.Textbox(example, label="prompt"), gr.Number(5.0, label="guidance")
        seed, steps = gr.Number(0, precision=0, label="seed"), gr.Number(25, precision=0, label="steps")
        drawn, remarks = gr.File(label="picture"), gr.JSON(label="remarks")
        result = gr.JSON(label="result")
        text, limit = gr.Textbox("apple", label="text"), gr.Number(20, precision=0, label="limit")
        run_id, found = gr.Textbox(label="run"), gr.JSON(label="images")
        name, listed = gr.Textbox(label="name"), gr.JSON(label="cases")
        hidden = gr.Button()
    drawing = [prompt, seed, steps, guidance]
    hidden.click(_generate(served), drawing, [drawn, remarks], api_name="generate", **PUBLIC, **_MODEL)
    hidden.click(_attribute(served), [picture, known, whole], run, api_name="attribute", **PUBLIC, **_MANY)
    hidden.click(_result(served), run_id, result, api_name="result", **PUBLIC, **_MANY)
    hidden.click(_search(served), [text, limit], found, api_name="search_training_set", **PUBLIC, **_MANY)
    hidden.click(_cases(list_cases), name, listed, api_name="cases", **PUBLIC, **_MANY)


_MODEL: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
_MANY: dict[str, Any] = {"concurrency_limit": None}


def _told(handler: Callable[Arguments, Outcome]) -> Callable[Arguments, Outcome]:
    """The handler, whose refusals reach the caller in their own words."""

    @wraps(handler)
    def told(*arguments: Arguments.args, **named: Arguments.kwargs) -> Outcome:
        try:
            return handler(*arguments, **named)
        except ForwardInfError as error:
            raise gr.Error(str(error)) from error

    return told


def _generate(served: Served) -> Callable[..., tuple[str, list[str]]]:
    @_told
    def generate(prompt: str, seed: int = 0, steps: int = 25, guidance: float = 5.0) -> tuple[str, list[str]]:
        """Draw a picture with the model; the same prompt, seed, steps and guidance give the same picture.

        The remarks say what of the prompt is not read.
        """
        request: GenerationRequest = forms.generation_request(prompt, seed, steps, guidance)
        with served.lock:
            png = png_of(served.ask(lambda attributor: attributor.model.generate(request)))
            unread = served.ask(lambda attributor: reading_notes(attributor.model, request.prompt))
        folder = served.folder / "drawn"
        folder.mkdir(exist_ok=True)
        path = folder / query_view.file_name(request)
        path.write_bytes(png)
        return str(path), list(unread)

    return generate


def _attribute(served: Served) -> Callable[..., dict[str, Any]]:
    @_told
    def attribute(picture: str, prompt: str = "", weigh_all: bool = False) -> dict[str, Any]:
        """Ask which training images shaped a picture most: puts a run in line, whose outcome `result` tells.

        `prompt` is what the picture was generated from; may be left empty. `weigh_all` weighs every training image
        instead of the likely ones.
        """
        if not picture:
            raise InvalidRequest("There is no picture. Give one as a file.")
        data, name = Path(picture).read_bytes(), Path(picture).name
        sha256, text = read_picture(data, name=name).sha256, forms.conditioning(prompt)
        method, effort = served.method, None if weigh_all else Effort()
        if before := asking.answered_before(served, sha256, text, method, effort):
            return {"run": before.id, "state": "finished", "link": f"/?result={before.id}"}
        run = runs.ask(served, Given(sha256, name, data), text, method, effort)
        return {"run": run.id, "state": run.record.state, "link": f"/run/{run.id}"}

    return attribute


def _result(served: Served) -> Callable[..., dict[str, Any]]:
    @for_viewers
    @_told
    def result(run: str) -> dict[str, Any]:
        """How far a run is, and its answer once it is finished; also by the id of an answer."""
        if len(run) == 16:
            return {"run": run, "state": "finished", "ahead": 0, "problem": "", "answer": _answer(served, run)}
        found = served.runs.get(run)
        record, ahead = found.record, served.runs.ahead_of(found)
        answer = _answer(served, record.result) if record.result else None
        return {"run": run, "state": record.state, "ahead": ahead, "problem": record.problem, "answer": answer}

    return result


def _answer(served: Served, result_id: str) -> dict[str, Any]:
    return served.results.load(result_id).record.model_dump(mode="json", by_alias=True)


def _search(served: Served) -> Callable[..., list[dict[str, Any]]]:
    @for_viewers
    @_told
    def search_training_set(text: str, limit: int = 20) -> list[dict[str, Any]]:
        """Training images whose caption or creator has words that begin as those of `text`, with their credits."""
        if not 1 <= limit <= MOST_FOUND:
            raise InvalidRequest(f"The limit is {limit}; it must be from 1 to {MOST_FOUND}.")
        found = forms.CatalogSearch(text).found_in(served.catalog)
        return [_credit(served, image) for image in found[: int(limit)]]

    return search_training_set


def _credit(served: Served, image: TrainingImage) -> dict[str, Any]:
    return {
        "id": image.id,
        "caption": image.caption,
        "collection": image.collection,
        "creator": image.creator,
        "licence": image.licence,
        "licence_url": image.licence_url,
        "source_url": image.source_url,
        "thumbnail": f"/{served.url_of(image.id)}",
    }


def _cases(list_cases: Callable[[], Sequence[Case]]) -> Callable[..., list[dict[str, Any]]]:
    @for_viewers
    @_told
    def cases(name: str = "") -> list[dict[str, Any]]:
        """The cases whose names contain `name`: pictures, how many are answered, decisions, and where each is shown."""
        wanted = [case for case in list_cases() if name.lower() in case.name.lower()]
        return [{**asdict(case), "link": f"/cases/{case.id}"} for case in wanted]

    return cases
