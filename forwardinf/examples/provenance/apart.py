"""Statements of untrusted files, read in the child process that pictures are decoded in."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ...errors import UnreadablePicture
from ..decoding.picture import MAX_BYTES
from ..decoding.sandbox import answered_apart
from ..decoding.signatures import format_of
from .embedded import LONGEST, MOST

CHILD = f"{__package__}.child"
PACKAGES = ("defusedxml", "c2pa", "toml", "cryptography", "cffi")


@dataclass(frozen=True)
class Stated:
    """Something that a file says of itself."""

    name: str
    value: str
    read_from: str  # which kind of metadata


def read_statements(data: bytes) -> tuple[Stated, ...]:
    """What the bytes of a picture state; raises UnreadablePicture where they are no picture, or the search fails."""
    if len(data) > MAX_BYTES:
        raise UnreadablePicture(f"has {len(data) / 1e6:,.1f} MB, too many to search. Save it smaller.")
    answer, _ = answered_apart(CHILD, format_of(data), data, PACKAGES)
    try:
        found = [[str(part) for part in row] for row in json.loads(answer)]
        return tuple(Stated(name[:100], value[:LONGEST], where[:200]) for name, value, where in found[:MOST])
    except (ValueError, TypeError) as error:
        raise UnreadablePicture("could not be searched: the search gave no usable answer.") from error
