"""The page that says how an answer is computed, what it does not mean, and on what terms."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from ..attribution.null_pictures import DRAWN_ID
from ..config import ASSETS
from ..index.info import prepared
from ..index.store import Index
from ..methods.steady import Steady
from ..scoring.confidence import FEWEST_FOR_VERDICT
from ..scoring.null import FEWEST_FOR_Z_SCORES
from . import theme, view
from .served import Served
from .templates import render
from .theme import html

LEAD = "How an answer is computed, what it does not mean, and which model and images it is about."
DIAGRAM = (
    "Six steps. The query, a picture and its prompt, gives a few gradient steps, which give moved weights. A forward "
    "sweep over training images shows whose loss they change. These changes are compared with the null: changes "
    "by pictures that the model never saw. The verdict names the images that stand out, or says that none does."
)


def add(served: Served) -> None:
    """Lay the page out in the current Blocks."""
    with gr.Column(elem_classes="fi-prose"):
        html(view.page_title("Method", LEAD))
        html(_how_it_works(served))
        html(render("model_facts.html", facts=_facts(served)))
        _document("Model card", served.checkpoint / "README.md")
        if served.shipped:
            _document("Licences of the artwork", ASSETS / "emoji" / "LICENSE-ARTWORK.md")


def _how_it_works(served: Served) -> str:
    index = served.index
    return render(
        "method.html",
        alternative=DIAGRAM,
        tunable=index.info.tunable,
        trained=len(index.trained),
        sketched=index.is_sketched,
        steady=isinstance(served.method, Steady),
        draws=index.info.draw_count,
        null=len(index.null_changes.queries) if index.null_changes else 0,
        null_kind=_kind_of_null(index),
        fewest=FEWEST_FOR_Z_SCORES,
        enough=FEWEST_FOR_VERDICT,
        shipped=served.shipped,
    )


def _kind_of_null(index: Index) -> str:
    """What the null pictures are, as the end of a sentence."""
    queries = index.null_changes.queries if index.null_changes else ()
    if index.catalog.by_id.keys() >= set(queries):
        return "that the model never saw, taken from the half of the held-out pictures least like any training image"
    if all(query_id.startswith(DRAWN_ID) for query_id in queries):
        return "that the base model drew from the training images’ captions, with the adapter left out"
    return "that were named as owing the training images nothing when the index was built"


def _facts(served: Served) -> list[tuple[str, object, bool]]:
    """Name, value and whether it is code."""
    index, info = served.index, served.index.info
    held_out = len(served.catalog.images) - len(index.trained)
    return [
        ("Model", info.model, False),
        ("Fingerprint of the weights", info.fingerprint, True),
        ("Index", index.folder.name, False),
        ("Fingerprint of the index", index.fingerprint, True),
        ("Training images", f"{len(index.trained):,}", False),
        *([("Held out, to compare with", f"{held_out:,}", False)] if held_out else []),
        ("Visual similarity by", info.embedder, False),
        ("Pictures prepared by", prepared(info.fit, info.flip), False),
    ]


def _document(title: str, path: Path) -> None:
    """A text that lies beside the model or its images, folded; nothing where there is none."""
    if path.is_file():
        with gr.Accordion(title, open=False):
            gr.Markdown(theme.with_pictures(view.without_front_matter(path.read_text(encoding="utf-8")), path.parent))
