"""Pure functions from requests, pictures and catalog rows to the HTML that shows them. All text is escaped here."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape

from ..examples.catalog import Catalog, TrainingImage
from ..examples.decoding import Picture
from ..models.generation import GenerationRequest
from ..records.record import Record
from .templates import render

COLLECTION_NAMES = {"openmoji": "OpenMoji", "twemoji": "Twemoji", "noto": "Noto Emoji", "fluent": "Fluent Emoji 3D"}
SPLIT_NAMES = {"train": "Trained on", "held_out": "Held out"}
LICENCE_NAMES = {
    "CC-BY-SA-4.0": "CC BY-SA 4.0",
    "CC-BY-4.0": "CC BY 4.0",
    "Apache-2.0": "Apache License 2.0",
    "MIT": "MIT License",
}
EXAMPLES = (
    "red apple, OpenMoji style",
    "tropical fish, Twemoji style",
    "ghost, Noto style",
    "cat, Fluent style",
    "palm tree, OpenMoji style",
    "french fries, Noto style",
    "smiling face with halo, Twemoji style",
    "bouquet, Fluent style",
)


def page_title(title: str, lead: str) -> str:
    return render("page_title.html", title=title, lead=lead)


# Notices


def problem(message: str, outcome: str) -> str:
    """What went wrong, announced at once by a screen reader; `outcome` is what did not happen, such as “Not drawn”."""
    return render("notice.html", role="alert", opening=outcome, message=message)


def remark(message: str) -> str:
    return render("notice.html", role="status", opening="Please note", message=message)


def reading_remarks(unread: str, knows_a_word: bool) -> str:
    """How much of a prompt the model could make sense of; empty where there is nothing to say."""
    if not knows_a_word:  # then it matters little how much of it was read
        return remark(
            "No word of this prompt occurs in a caption that the model was trained on. The picture is arbitrary."
        )
    if unread:
        return remark(f"The prompt is longer than the model reads. This end of it was ignored: “{_ending(unread)}”.")
    return ""


def _ending(text: str, longest: int = 80) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest // 2].rstrip()} … {text[-longest // 2 :].lstrip()}"


# The drawn picture


def examples(catalog: Catalog, count: int = 5) -> list[str]:
    """Prompts to start from: training captions, each style in turn."""
    captions = {image.caption for image in catalog.images if image.split == "train"}
    return ([text for text in EXAMPLES if text in captions] or sorted(captions))[:count]


def drawn_picture(png: bytes, request: GenerationRequest, seconds: float) -> str:
    """A picture with what it takes to draw it again, and a link that saves it."""
    prompt, url = escape(request.prompt), data_url(png)
    return (
        f'<figure class="fi-figure"><div class="fi-frame"><img src="{url}" alt="Drawn from the prompt: {prompt}"></div>'
        f'<figcaption><span class="fi-prompt">“{prompt}”</span>'
        f'<span class="fi-facts">seed {request.seed} · {request.steps} steps · guidance {request.guidance:g} · '
        f"{seconds:.1f}&nbsp;s</span>"
        f'<a class="fi-download" href="{url}" download="{file_name(request)}">Download PNG</a></figcaption></figure>'
    )


def awaited_picture(text: str) -> str:
    """The frame before the first picture is in it."""
    return (
        f'<figure class="fi-figure fi-awaited"><div class="fi-frame"><p role="status">{escape(text)}</p></div></figure>'
    )


def given_picture(png: bytes, name: str, picture: Picture) -> str:
    """An uploaded picture as it was read, with what was converted and the hash of the bytes as they arrived."""
    width, height = picture.original_size
    facts = f'<span class="fi-facts">{escape(picture.format)} · {width:,} × {height:,}</span>'
    return _query_picture(png, name, facts, picture.sha256, picture.notes)


def kept_picture(png: bytes, record: Record) -> str:
    """The query of a kept result."""
    return _query_picture(png, record.query.file_name, "", record.query.sha256, record.query.notes)


def _query_picture(png: bytes, name: str, facts: str, sha256: str, notes: Sequence[str]) -> str:
    said = f'<ul class="fi-notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>' if notes else ""
    return (
        f'<figure class="fi-figure"><div class="fi-frame"><img src="{data_url(png)}" alt="Query: {escape(name)}"></div>'
        f'<figcaption><span class="fi-prompt">{escape(name)}</span>{facts}'
        f'<code class="fi-hash" title="SHA-256 of the file: {sha256}">SHA-256 {sha256[:12]}…</code>{said}'
        "</figcaption></figure>"
    )


def data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def file_name(request: GenerationRequest) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", request.prompt.lower())[:60].strip("-")
    return f"{words or 'picture'}-seed-{request.seed}.png"


def credit_facts(image: TrainingImage) -> Sequence[tuple[str, str]]:
    """Names and HTML of what is known of a picture's origin."""
    often = f", shown {image.repeats} times per epoch" if image.repeats > 1 else ""
    return (
        ("Creator", escape(image.creator)),
        ("Licence", licence(image)),
        ("Collection", link(image.source_url, _collection_name(image.collection))),
        ("File", f"<code>{escape(image.source_file)}</code>"),
        ("Package", f"<code>{escape(image.source_package)} {escape(image.source_version)}</code>"),
        ("Use", f"{SPLIT_NAMES[image.split].lower()}{often}"),
        ("SHA-256", f'<code title="{escape(image.sha256)}">{escape(image.sha256[:16])}…</code>'),
    )


def licence(image: TrainingImage) -> str:
    return link(image.licence_url, LICENCE_NAMES.get(image.licence, image.licence))


def link(url: str, text: str) -> str:
    """A link to another site; only http addresses become links."""
    if not url.startswith(("https://", "http://")):
        return escape(text)
    return f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{escape(text)}</a>'


def _collection_name(collection: str) -> str:
    return COLLECTION_NAMES.get(collection, collection)


def without_front_matter(markdown: str) -> str:
    """A model card's text, without the YAML block that a Hub reads."""
    return re.sub(r"\A---\n.*?\n---\n", "", markdown, count=1, flags=re.DOTALL).strip()


def pictures_beside(markdown: str) -> list[str]:
    """Names of the pictures that a text shows from its own folder; paths that lead elsewhere are not among them."""
    return re.findall(r"!\[[^\]]*\]\(([\w-]+\.(?:png|jpg|svg|webp))\)", markdown)
