"""What several pages share: titles, notices, the names of collections and licences, and texts beside a model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .templates import render

COLLECTION_NAMES = {"openmoji": "OpenMoji", "twemoji": "Twemoji", "noto": "Noto Emoji", "fluent": "Fluent Emoji 3D"}
SPLIT_NAMES = {"train": "Trained on", "held_out": "Held out"}
LICENCE_NAMES = {
    "CC-BY-SA-4.0": "CC BY-SA 4.0",
    "CC-BY-4.0": "CC BY 4.0",
    "Apache-2.0": "Apache License 2.0",
    "MIT": "MIT License",
}


def page_title(title: str, lead: str) -> str:
    return render("page_title.html", title=title, lead=lead)


def comparison(picture_url: str, second: str | None, caption: str, mode: str, keys: bool = False) -> str:
    """A picture and a training image that can be compared in several ways, at first by `mode`.

    `keys` says that letters choose between the ways.
    """
    return render(
        "comparison.html",
        mode=mode,
        first=picture_url,
        first_alt="The picture in question",
        second=second,
        second_alt=caption,
        keys=keys,
    )


# Notices


def problem(message: str, outcome: str) -> str:
    """What went wrong, announced at once by a screen reader; `outcome` says what failed, such as “Not generated”."""
    return render("notice.html", role="alert", opening=outcome, message=message)


def remark(message: str) -> str:
    return render("notice.html", role="status", opening="Please note", message=message)


def reading_remarks(notes: Sequence[str], knows_a_word: bool) -> str:
    """How much of a prompt the model could make sense of; empty where there is nothing to say."""
    if not knows_a_word:  # then it matters little how much of it was read
        return remark(
            "No word of this prompt occurs in a caption that the model was trained on. The picture is arbitrary."
        )
    return remark(" ".join(notes)) if notes else ""


def without_front_matter(markdown: str) -> str:
    """A model card's text, without the YAML block that a Hub reads."""
    return re.sub(r"\A---\n.*?\n---\n", "", markdown, count=1, flags=re.DOTALL).strip()


def pictures_beside(markdown: str) -> list[str]:
    """Names of the pictures that a text shows from its own folder; paths that lead elsewhere are not among them."""
    return re.findall(r"!\[[^\]]*\]\(([\w-]+\.(?:png|jpg|svg|webp))\)", markdown)
