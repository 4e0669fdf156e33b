"""HTML from the templates beside this file; every value is escaped unless it is already `Markup`."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_FOLDER = Path(__file__).with_name("templates")
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(name: str, /, **context: object) -> Markup:
    """The template `name` filled in; safe to place in another, and a `str` for Gradio.

    Raises jinja2's UndefinedError where the template uses a name that `context` lacks.
    """
    return Markup(_ENVIRONMENT.get_template(name).render(**context))  # escaped by the template


def source_of(name: str) -> str:
    """The template `name` as it is written, for another library's environment to fill in."""
    return (_FOLDER / name).read_text(encoding="utf-8")
