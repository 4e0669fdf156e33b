"""The report of a case as one HTML file that needs no other, the same for the same case."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..examples.decoding.signatures import format_of
from ..visible import visible
from .dossier import LIMITS, METHOD, Dossier, Entry
from .findings import FoundMatch
from .text import agreement_as_text, many

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def report_as_html(dossier: Dossier) -> str:
    """Pictures, what was found and decided, by whom, when and why, credits, method and limits."""
    return _ENVIRONMENT.get_template("report.html").render(
        dossier=dossier,
        many=many,
        version=__version__,
        method=METHOD,
        limits=LIMITS,
        agreement=agreement_as_text(dossier.agreement, dossier.contradictions),
        picture_url=_picture_url,
        thumbnail_url=_thumbnail_url,
    )


def _picture_url(entry: Entry) -> str:
    assert entry.result is not None
    return _data_url(entry.result.picture)  # as it was read: the original is a stranger's


def _thumbnail_url(entry: Entry, match: FoundMatch) -> str:
    return _data_url(entry.thumbnails[match.example_id])


def _data_url(image: bytes) -> str:
    return f"data:image/{format_of(image).lower()};base64,{base64.b64encode(image).decode()}"
