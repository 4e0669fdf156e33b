"""Pure functions from requests, pictures and catalog rows to the HTML that shows them. All text is escaped here."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape

from ..examples.catalog import Catalog, TrainingImage, counted
from ..examples.decoding import Picture
from ..models.generation import GenerationRequest
from ..records.record import Record
from .templates import render

COLLECTION_NAMES = {"openmoji": "OpenMoji", "twemoji": "Twemoji", "noto": "Noto Emoji", "fluent": "Fluent Emoji 3D"}
SPLIT_NAMES = {"train": "training", "held_out": "held out", "reserve": "reserve"}
SPLIT_MEANINGS = {
    "train": "the model was trained on it",
    "held_out": "kept from the model, as a reference to compare with",
    "reserve": "not used",
}
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
    """What went wrong, said so that a screen reader interrupts; `outcome` is what has not happened, as “Not drawn”."""
    return render("notice.html", role="alert", opening=outcome, message=message)


def remark(message: str) -> str:
    return render("notice.html", role="status", opening="Please note", message=message)


def reading_remarks(unread: str, knows_a_word: bool) -> str:
    """How much of a prompt the model could make sense of; empty where there is nothing to say."""
    if not knows_a_word:  # then it matters little how much of it was read
        return remark(
            "The model knows English names of emoji, and this prompt has no word that it has seen in training, "
            "so the picture is arbitrary."
        )
    if unread:
        return remark(f"The prompt is longer than the model reads. Its end was not read: “{_ending(unread)}”.")
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


def provenance(catalog: Catalog, page: str) -> str:
    count, page = len(catalog.of_split("train").images), f'<a href="{escape(page)}">Training set</a> page'
    return f'<p class="fi-small">Trained only on the {count:,} pictures of the {page}.</p>'


# The training set


def found(count: int, first: int, shown: int) -> str:
    """How many pictures were found, and which of them are shown; `first` is the place of the first of these, from 0."""
    if not count:
        return '<p class="fi-small" role="status">No picture matches. Try fewer words, or another filter.</p>'
    how_many = f"{count:,} pictures" if count > 1 else "1 picture"
    part = f"{first + 1:,} to {first + shown:,} of " if shown < count else ""
    return f'<p class="fi-small" role="status">{part}{how_many}</p>'


def gallery(images: Iterable[TrainingImage], url_of: Callable[[TrainingImage], str]) -> str:
    """Pictures as buttons that carry their ids."""
    return f'<ul class="fi-gallery">{"".join(_tile(image, url_of(image)) for image in images)}</ul>'


def _tile(image: TrainingImage, url: str) -> str:
    often = f'<span class="fi-badge">×{image.repeats}</span>' if image.repeats > 1 else ""
    caption, size = escape(image.caption), f'width="{image.width}" height="{image.height}"'
    return (
        f'<li><button type="button" data-id="{escape(image.id)}" title="{caption}">'
        f'<img src="{escape(url)}" alt="{caption}" loading="lazy" {size}>'
        f'{often}<span class="fi-name" aria-hidden="true">{escape(image.subject)}</span></button></li>'
    )


def no_choice() -> str:
    return '<div class="fi-card fi-empty"><p>Choose a picture to see who made it, and on what terms.</p></div>'


def credit(image: TrainingImage, url: str) -> str:
    """Everything that the catalog knows of a picture's origin."""
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in credit_facts(image))
    return (
        f'<div class="fi-card fi-credit" role="status"><img src="{escape(url)}" alt="{escape(image.caption)}">'
        f"<div><h2>{escape(image.caption)}</h2><dl>{rows}</dl></div></div>"
    )


def credit_facts(image: TrainingImage) -> Sequence[tuple[str, str]]:
    """Names and HTML of what is known of a picture's origin."""
    often = f", shown {image.repeats} times per pass" if image.repeats > 1 else ""
    split = f"{SPLIT_NAMES[image.split]}: {SPLIT_MEANINGS[image.split]}{often}"
    return (
        ("Creator", escape(image.creator)),
        ("Licence", licence(image)),
        ("Collection", link(image.source_url, _collection_name(image.collection))),
        ("File", f"<code>{escape(image.source_file)}</code>"),
        ("Package", f"<code>{escape(image.source_package)} {escape(image.source_version)}</code>"),
        ("Split", escape(split)),
        ("SHA-256", f'<code title="{escape(image.sha256)}">{escape(image.sha256[:16])}…</code>'),
    )


def licence(image: TrainingImage) -> str:
    return link(image.licence_url, LICENCE_NAMES.get(image.licence, image.licence))


def link(url: str, text: str) -> str:
    """A link to another site; only http addresses become links."""
    if not url.startswith(("https://", "http://")):
        return escape(text)
    return f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{escape(text)}</a>'


def collections(catalog: Catalog) -> str:
    """One row of credit per collection."""
    heads = ("Collection", "Creator", "Licence", "Trained on", "Held out", "Reserve", "Source package")
    rows = []
    for name, _ in counted(catalog.images, lambda image: image.collection):
        images = [image for image in catalog.images if image.collection == name]
        first, splits = images[0], dict(counted(images, lambda image: image.split))
        cells = (
            f"<strong>{link(_site(first.source_url), _collection_name(name))}</strong>",
            _creators(images),
            licence(first),
            *(f"{splits.get(split, 0):,}" for split in SPLIT_NAMES),
            f"<code>{escape(first.source_package)} {escape(first.source_version)}</code>",
        )
        rows.append("".join(f'<td data-head="{head}">{cell}</td>' for head, cell in zip(heads, cells, strict=True)))
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table class="fi-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def creators(catalog: Catalog) -> str:
    """Every person or body that made a picture, most pictures first; the number is of pictures trained on."""
    trained = counted((i for i in catalog.images if i.split == "train"), lambda image: image.creator)
    known = {name for name, _ in trained}
    others = sorted({image.creator for image in catalog.images} - known)
    entries = [f"<li>{escape(name)} <span>{count:,}</span></li>" for name, count in trained]
    more = f"Only in the pictures that the model was not trained on: {escape(', '.join(others))}."
    return f'<ul class="fi-creators">{"".join(entries)}</ul>' + (f'<p class="fi-small">{more}</p>' if others else "")


def _creators(images: Sequence[TrainingImage]) -> str:
    names = [name for name, _ in counted(images, lambda image: image.creator)]
    return escape(names[0]) if len(names) == 1 else f"{len(names)} people, each named with their pictures and below"


def _collection_name(collection: str) -> str:
    return COLLECTION_NAMES.get(collection, collection)


def _site(url: str) -> str:
    """The project that an address belongs to: a repository on GitHub, or the whole site."""
    address = re.match(r"https://github\.com/[^/]+/[^/]+|https?://[^/]+", url)
    return address.group() if address else ""


def training_set_counts(catalog: Catalog) -> str:
    trained = catalog.of_split("train").images
    splits = dict(counted(catalog.images, lambda image: image.split))
    facts = [
        (len(trained), "trained on"),
        *((n, f"of these shown {times} times per pass") for times, n in sorted(_repeats(trained).items())),
        (splits.get("held_out", 0), "held out, as a reference"),
        (splits.get("reserve", 0), "in reserve, not used"),
    ]
    return f'<ul class="fi-counts">{"".join(f"<li><b>{n:,}</b> {text}</li>" for n, text in facts)}</ul>'


def _repeats(images: Iterable[TrainingImage]) -> dict[int, int]:
    return Counter(image.repeats for image in images if image.repeats > 1)


def without_front_matter(markdown: str) -> str:
    """A model card's text, without the YAML block that a Hub reads."""
    return re.sub(r"\A---\n.*?\n---\n", "", markdown, count=1, flags=re.DOTALL).strip()


def pictures_beside(markdown: str) -> list[str]:
    """Names of the pictures that a text shows from its own folder; paths that lead elsewhere are not among them."""
    return re.findall(r"!\[[^\]]*\]\(([\w-]+\.(?:png|jpg|svg|webp))\)", markdown)


def model_facts(fingerprint: str, catalog: Catalog) -> str:
    count = len(catalog.of_split("train").images)
    facts = (
        ("Trained on", f"{count:,} pictures"),
        ("Fingerprint of the weights", f"<code>{escape(fingerprint)}</code>"),
    )
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    return f'<h2 class="fi-section">The model in use</h2><dl class="fi-model">{rows}</dl>'
