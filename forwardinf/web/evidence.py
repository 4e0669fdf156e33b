"""The page that shows how accurate the answers are, as the studies found."""

from __future__ import annotations

import re

import gradio as gr

from ..config import ASSETS, EMOJI_INDEX
from ..index.store import Index, read_info
from . import theme, view
from .reports import OURS, summary_of
from .served import Served
from .templates import render
from .theme import html

STUDIES = ASSETS / "studies"
LEAD = "How accurate the answers are, measured on questions whose true answer is known."
NOTHING_YET = "There are no reports of studies here. `forwardinf study all` makes them, in many hours."


def add(served: Served) -> None:
    """Lay the page out in the current Blocks."""
    tables = STUDIES / "figures.md"
    with gr.Column(elem_classes="fi-prose"):
        html(view.page_title("Evidence", LEAD))
        html(
            render(
                "evidence.html",
                shipped=served.shipped,
                about=_about(),
                served=_named(served.index),
                summary=summary_of(STUDIES),
                ours=OURS,
            )
        )
        if tables.is_file():
            gr.Markdown(
                theme.with_pictures(_one_level_up(tables.read_text(encoding="utf-8")), STUDIES), elem_id="evidence"
            )
        else:
            gr.Markdown(NOTHING_YET, elem_id="evidence")


def _about() -> str:
    """The model and the index that the studies of whole answers used."""
    if not EMOJI_INDEX.is_dir():
        return "the model and the index that come with the project"
    info = read_info(EMOJI_INDEX)
    return f"{info.model} ({info.fingerprint[:12]}…) and its index of {info.examples:,} images"


def _named(index: Index) -> str:
    return f"{index.info.model} ({index.info.fingerprint[:12]}…) with the index “{index.folder.name}”"


def _one_level_up(markdown: str) -> str:
    """A report's headings, which on this page come right below its title."""
    return re.sub(r"^###", "##", markdown, flags=re.MULTILINE)
