"""The page that shows how right the answers are, as the studies found."""

from __future__ import annotations

import gradio as gr

from ..config import ASSETS
from . import theme, view
from .served import Served
from .theme import html

TABLES = ASSETS / "studies" / "figures.md"
LEAD = "How right the answers are, measured on questions whose answers are known."
HOW_MEASURED = """
An attribution that looks plausible may be wrong. So this method and its rivals were put to questions whose answers are
known, all through the same code. `forwardinf study all` asks them again, and `forwardinf study report` prints what
follows; brackets are 95 % intervals. All of it was measured on the small model that comes with this app, or on a
smaller one of its kind: of other models it says little.
"""
NOTHING_YET = "No study's report is at hand. `forwardinf study all` makes them, in many hours."


def add(served: Served) -> None:
    """Lay the page out in the current Blocks."""
    with gr.Column(elem_classes="fi-prose"):
        html(view.page_title("Evidence", LEAD))
        gr.Markdown(HOW_MEASURED)
        if TABLES.is_file():
            gr.Markdown(theme.with_pictures(_told(), TABLES.parent), elem_id="evidence")
        else:
            gr.Markdown(NOTHING_YET, elem_id="evidence")


def _told() -> str:
    """The tables with headings one level up: on this page no other lies between its title and them."""
    return TABLES.read_text(encoding="utf-8").replace("### ", "## ")
