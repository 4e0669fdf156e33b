"""Pure functions from the picture in question to the HTML that shows it."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from itertools import chain, zip_longest

from ..examples.catalog import Catalog
from ..examples.decoding import Picture
from ..examples.provenance.generation import Generation
from ..models.generation import MAX_PROMPT, GenerationRequest
from ..records.origin import facts_of
from .templates import render


def examples(catalog: Catalog, count: int = 5) -> list[str]:
    """Captions to generate from: of the images that training showed most often, which the model generates best.

    Collections take turns.
    """
    captions: dict[str, list[str]] = {}  # by collection
    for image in sorted(catalog.of_split("train").images, key=lambda image: (-image.repeats, image.id)):
        captions.setdefault(image.collection, []).append(image.caption)
    in_turn = filter(None, chain.from_iterable(zip_longest(*captions.values())))
    return list(dict.fromkeys(in_turn))[:count]


def drawn_picture(png: bytes, sha256: str, request: GenerationRequest, seconds: float | None = None) -> str:
    """A picture with what it takes to generate it again, and a link that saves it."""
    took = "" if seconds is None else f" · {seconds:.1f} s"
    return render(
        "query_picture.html",
        url=data_url(png),
        sha256=sha256,
        alt=f"Generated from the prompt: {request.prompt}",
        title=f"“{request.prompt}”",
        facts=f"seed {request.seed} · {request.steps} steps · guidance {request.guidance:g}{took}",
        download=file_name(request),
        notes=(),
    )


def awaited_picture(text: str) -> str:
    """The frame before the first picture is in it."""
    return render("awaited_picture.html", text=text)


def given_picture(png: bytes, name: str, picture: Picture, stated: Generation | None = None, unread: str = "") -> str:
    """An uploaded picture as it was read, with what was converted, and with the prompt that its file carries."""
    width, height = picture.original_size
    notes = [*picture.notes, *filter(None, [unread]), *(_carried(stated) if stated else ())]
    return _given(png, name, f"{picture.format} · {width:,} × {height:,}", picture.sha256, notes)


def _carried(stated: Generation) -> list[str]:
    facts = facts_of(stated)
    carried = f"its file carries the prompt “{stated.prompt}”" if stated.prompt else "its file carries no prompt"
    return [carried + (f", {facts}" if facts else ""), *stated.shortened(MAX_PROMPT).notes]


def kept_picture(png: bytes, name: str, sha256: str, notes: Sequence[str]) -> str:
    """The picture of a kept answer."""
    return _given(png, name, "", sha256, notes)


def _given(png: bytes, name: str, facts: str, sha256: str, notes: Sequence[str]) -> str:
    return render(
        "query_picture.html",
        url=data_url(png),
        sha256=sha256,
        alt=f"Picture: {name}",
        title=name,
        facts=facts,
        download="",
        notes=notes,
    )


def data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def file_name(request: GenerationRequest) -> str:
    """A name for a download; letters of every script are kept."""
    words = re.sub(r"[\W_]+", "-", request.prompt.lower())[:60].strip("-")
    return f"{words or 'picture'}-seed-{request.seed}.png"
