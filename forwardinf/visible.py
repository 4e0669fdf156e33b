"""Other people's words (file names, captions, credits) without characters that hide or reorder what is shown.

A character that turns the direction of text shows “exe.gpj” as “jpg.exe”, one that moves a terminal's cursor writes
over the lines above, and one without width makes two names look the same.
"""

from __future__ import annotations

import re

# Controls but tab and line ends, what turns the direction, what has no width, and halves of characters. Joiners stay,
# as emoji and several scripts are written with them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]|\r(?!\n)"
)


def visible(text: str) -> str:
    """`text` with each of them as its code point: “[U+202E]”."""
    return _HIDDEN.sub(lambda found: f"[U+{ord(found.group()):04X}]", text)


def on_a_line(text: str) -> str:
    """The same on one line, for a terminal, where a line end in a name would begin a line of its own."""
    return visible(" ".join(text.split()))
