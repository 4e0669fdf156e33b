"""Which shapes of picture are read, and what the refusals of this package advise.

A refusal is a predicate (“is empty…”); `picture` puts the name of the file in front of it.
"""

from __future__ import annotations

from ...errors import UnreadablePicture

MAX_PIXELS = 40_000_000
MAX_SIDE = 1024  # of the picture that is handed back
MIN_SIDE = 8
MAX_ASPECT = 8  # at 64 px, a picture longer than this is less than 8 px wide once it is padded to a square

EXPORT_AS_PNG = "Open it in an image editor, export it as PNG, and use that."
FETCH_AGAIN = "Download or copy it again from where it came from."


def refuse_shape(width: int, height: int) -> None:
    """Raises UnreadablePicture for a picture that is too large, too small or too long."""
    if width * height > MAX_PIXELS:
        raise too_large(width * height)
    short, long = sorted((width, height))
    if short < MIN_SIDE:
        message = f"is {width:,} × {height:,} pixels; the shorter side must have at least {MIN_SIDE}."
        raise UnreadablePicture(f"{message} Use a larger version of it.")
    if long > MAX_ASPECT * short:
        message = f"is {width:,} × {height:,} pixels, longer than {MAX_ASPECT} to 1: padded to the model's square,"
        raise UnreadablePicture(f"{message} hardly anything of it would be left. Crop it and try again.")


def too_large(pixels: int) -> UnreadablePicture:
    many = f"{pixels / 1e6:,.0f}" if pixels else "too many"
    limit = f"at most {MAX_PIXELS // 10**6} are read"
    return UnreadablePicture(f"has {many} megapixels; {limit}. Save it smaller and try again.")
