"""Whose images a training set holds, on what terms and from where: as a summary of training data lists sources."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from .catalog import Catalog, TrainingImage


@dataclass(frozen=True, order=True)
class Credit:
    """What images of one source have in common."""

    source: str
    creator: str
    licence: str
    licence_url: str
    url: str  # of the source as a whole


def credits_of(catalog: Catalog) -> list[tuple[Credit, int, int]]:
    """Each credit with the number of images trained on, and of those held out; most images first."""
    numbers = Counter((_credit(image), image.split == "train") for image in catalog.images)
    rows = [(credit, numbers[credit, True], numbers[credit, False]) for credit in {credit for credit, _ in numbers}]
    return sorted(rows, key=lambda row: (-row[1], -row[2], row[0]))


def site_of(url: str) -> str:
    """The project that an address belongs to: a repository on GitHub, or the whole site; empty for none."""
    address = re.match(r"https://github\.com/[^/]+/[^/]+|https?://[^/]+", url)
    return address.group() if address else ""


def _credit(image: TrainingImage) -> Credit:
    return Credit(image.collection, image.creator, image.licence, image.licence_url, site_of(image.source_url))
