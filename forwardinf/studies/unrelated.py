"""Pictures that are unrelated to any training set: artwork made by rules, and parts of photographs."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image

from ..errors import MissingAsset
from ..examples.decoding import to_square
from .procedural import KINDS, procedural

# Photographs, microscopy and textures from the scikit-image package, with a caption each.
PHOTOGRAPHS = {
    "astronaut": "a woman in a space suit",
    "brick": "a brick wall",
    "camera": "a man with a camera",
    "chelsea": "a tabby cat",
    "coffee": "a cup of coffee on a table",
    "coins": "old coins",
    "grass": "grass",
    "gravel": "gravel",
    "hubble_deep_field": "galaxies in deep space",
    "immunohistochemistry": "stained tissue under a microscope",
    "moon": "the surface of the moon",
    "retina": "the back of an eye",
    "rocket": "a rocket at its launch",
}


@dataclass(frozen=True)
class Unrelated:
    """A picture with a prompt; half of all prompts are empty, as for most uploads."""

    name: str
    kind: str  # "procedural" or "photograph"
    picture: Image.Image
    prompt: str


def unrelated(count: int, side: int) -> list[Unrelated]:
    """`count` pictures of `side` pixels, in turn procedural artwork and parts of photographs.

    A larger number begins with the same pictures. Parts of a photograph have random places and sizes, so they may
    overlap. Raises MissingAsset where scikit-image, which holds the photographs, is not installed.
    """
    return [_procedural(n // 2, side) if n % 2 == 0 else _photograph(n // 2, side) for n in range(count)]


def _procedural(number: int, side: int) -> Unrelated:
    kind = KINDS[number % len(KINDS)]
    prompt = f"{kind}, abstract pattern" if number // len(KINDS) % 2 else ""
    return Unrelated(f"{kind}-{number}", "procedural", procedural(kind, 10_000 + number, side), prompt)


def _photograph(number: int, side: int) -> Unrelated:
    names = list(PHOTOGRAPHS)
    name = names[number % len(names)]
    chance = random.Random(f"unrelated/{number}")
    whole = _loaded(name)
    edge = round(min(whole.size) * chance.uniform(0.3, 1.0))
    left, top = (chance.randint(0, extent - edge) for extent in whole.size)
    part = whole.crop((left, top, left + edge, top + edge))
    prompt = PHOTOGRAPHS[name] if number // len(names) % 2 else ""
    return Unrelated(f"{name}-{number}", "photograph", to_square(part, side), prompt)


def _loaded(name: str) -> Image.Image:
    try:
        from skimage import data
    except ImportError as error:
        raise MissingAsset(
            "The study's photographs come with scikit-image, which is not installed. Run: pip install scikit-image"
        ) from error
    return Image.fromarray(getattr(data, name)()).convert("RGB")
