"""Pure functions from what was drawn to test a match to the HTML that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..attribution.counterfactual import Counterfactual, Redrawn
from ..attribution.regeneration import Regeneration
from ..examples.decoding import to_square
from ..records.keeping import png_of
from .query_view import data_url
from .templates import render

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 160  # pixels


def regeneration(found: Regeneration) -> str:
    """Pictures drawn from a training image's caption, as far as they are drawn."""
    return render(
        "regeneration.html",
        caption=found.image.caption,
        pictures=[(_url(drawn.picture), drawn.seed, drawn.likeness) for drawn in found.drawn],
        done=len(found.drawn) + len(found.reach),
        total=found.seeds + found.others,
        found=found.in_words if found.finished else "",
    )


def counterfactual(found: Counterfactual, prompt: str) -> str:
    """A prompt drawn as the model is and without an image, as far as it is drawn."""
    return render(
        "counterfactual.html",
        prompt=prompt,
        rows=[_row(f"seed {one.seed}", one) for one in found.of_prompt],
        unrelated=[_row(f"“{one.prompt}”", one) for one in found.unrelated],
        done=found.steps,
        total=found.total,
        found=found.in_words if found.steps == found.total else "",
    )


def _row(name: str, one: Redrawn) -> tuple[str, list[tuple[str, float | None]]]:
    """A row's name, and its pictures, each with its likeness to the first."""
    pictures = (one.before, one.without_chosen, one.without_random)
    alike = (None, one.chosen_likeness, one.random_likeness)
    return name, [(_url(picture), value) for picture, value in zip(pictures, alike, strict=True)]


def _url(picture: Image) -> str:
    return data_url(png_of(to_square(picture, SIDE)))
