"""What is taken from a file before Pillow decodes it."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import UnreadablePicture
from .limits import EXPORT_AS_PNG


@dataclass(frozen=True)
class Container:
    """The first frame of a file, free of what does not decide its pixels, and what was found on the way."""

    data: bytes  # a file of the same format, for Pillow
    frames: int = 1
    has_profile: bool = False  # there is an ICC profile, whether or not it can be used
    notes: tuple[str, ...] = ()


def too_many(what: str, limit: int) -> UnreadablePicture:
    """The refusal of a file of so many parts that walking through them would keep others waiting."""
    return UnreadablePicture(f"has more than {limit:,} {what}, far more than any picture needs. {EXPORT_AS_PNG}")
