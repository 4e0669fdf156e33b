"""HTML from the templates beside this file; every value is escaped and made visible unless it is already `Markup`."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ..visible import visible

_FOLDER = Path(__file__).with_name("templates")


def _shown(value: object) -> object:
    """What is not HTML yet is other people's words, or may be."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_FOLDER),
    autoescape=True,
    finalize=_shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["exact"] = escape  # for what scripts send back, and nobody reads


def render(name: str, /, **context: object) -> Markup:
    """The template `name` filled in; safe to place in another, and a `str` for Gradio.

    Raises jinja2's UndefinedError where the template uses a name that `context` lacks.
    """
    return Markup(_ENVIRONMENT.get_template(name).render(**context))  # escaped by the template


def source_of(name: str) -> str:
    """The template `name` as it is written, for another library's environment to fill in."""
    return (_FOLDER / name).read_text(encoding="utf-8")
