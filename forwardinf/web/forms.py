"""From what a browser's form holds to the requests that the core accepts.

A form's number arrives as an int, a float, text, or nothing at all; the API's JSON may hold anything.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from ..errors import InvalidRequest
from ..examples.catalog import Catalog, TrainingImage, words_of
from ..methods.forward_inf import ForwardInf
from ..models.generation import MAX_GUIDANCE, MAX_SEED, MAX_STEPS, GenerationRequest, require_short

EVERY_COLLECTION = ""
EVERY_SPLIT = ""
EVERY_LICENCE = ""


def generation_request(prompt: object, seed: object, steps: object, guidance: object) -> GenerationRequest:
    """The picture that a filled-in form asks for; raises InvalidRequest naming the field that cannot be used."""
    return GenerationRequest(
        prompt="" if prompt is None else str(prompt),
        seed=_integer("seed", seed, MAX_SEED),
        steps=_integer("number of steps", steps, MAX_STEPS, low=1),
        guidance=_number("guidance", guidance, f"a number from 0 to {MAX_GUIDANCE:g}"),
    )


def conditioning(prompt: object) -> str:
    """The prompt that goes with a query, which may be empty; raises InvalidRequest where it is too long."""
    text = "" if prompt is None else str(prompt)
    require_short(text)
    return text


def attribution_method(
    default: ForwardInf, direction: object, score: object, budget: object, steps: object
) -> ForwardInf:
    """The method that a filled-in form asks for; raises InvalidRequest naming the field that cannot be used."""
    return default.changed(
        direction=str(direction),
        score=str(score),
        loss_budget=_number("loss budget", budget, "a number above 0"),
        steps=_integer("number of gradient steps", steps, 100, low=1),
    )


@dataclass(frozen=True)
class CatalogSearch:
    """Which pictures of a catalog to show."""

    text: str = ""  # beginnings of words of a caption or a creator's name; all must occur
    collection: str = EVERY_COLLECTION
    split: str = "train"
    repeated: bool = False  # only those that an epoch of training showed more than once
    licence: str = EVERY_LICENCE

    def found_in(self, catalog: Catalog) -> list[TrainingImage]:
        """The matching pictures, each subject's styles side by side."""
        beginnings = [f" {word}" for word in words_of(self.text)]
        return [
            image
            for image, words in catalog.by_subject
            if self.split in (EVERY_SPLIT, image.split)
            and self.collection in (EVERY_COLLECTION, image.collection)
            and self.licence in (EVERY_LICENCE, image.licence)
            and (image.repeats > 1 or not self.repeated)
            and _has_all(words, beginnings)
        ]


def _has_all(text: str, parts: list[str]) -> bool:
    return all(part in text for part in parts)


def _integer(what: str, value: object, high: int, low: int = 0) -> int:
    wanted = f"a whole number from {low} to {high}"
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(what, value, wanted)
    if not number.is_integer():
        raise InvalidRequest(f"The {what} is {number:g}; it must be {wanted}.")
    return int(number)


def _number(what: str, value: object, wanted: str) -> float:
    if value is None or value == "":
        raise InvalidRequest(f"The {what} is empty; it must be {wanted}.")
    try:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"The {what} is “{textwrap.shorten(str(value), 40, placeholder='…')}”; it must be {wanted}.")
