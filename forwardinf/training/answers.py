"""The finished answers that ship with the model, for the first screen of the app: made again by one command.

Most are of pictures that the model draws of images that training showed it often. One is close to the threshold, and
one is of a picture that no model drew, for which nothing should stand out.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from ..attribution.answer import answer_of
from ..examples.decoding import read_picture
from ..files import atomic
from ..methods.forward_inf import ForwardInf
from ..models.generation import GenerationRequest
from ..records.csv import as_csv
from ..records.recording import record_of
from ..records.shipped import Listed, write_list
from ..records.store import FolderStore

if TYPE_CHECKING:
    from ..attribution.attributor import Attributor

LISTED = 20  # images of an answer, also in its table: with every image the six would take megabytes
SQUARE = "red-square.png"


@dataclass(frozen=True)
class Example:
    """A picture to answer, drawn from `prompt`, or the red square where there is none."""

    prompt: str = ""
    seed: int = 0
    note: str = ""  # on the card


EXAMPLES = (
    Example("flamingo, Fluent style"),
    Example("crown, Noto style"),
    Example("pineapple, Noto style"),
    Example("snail, OpenMoji style", note="Memorised: shown 25 times per epoch"),
    Example("strawberry, OpenMoji style", note="A close call"),
    Example(note="Not drawn by the model"),
)


def build_answers(
    attributor: Attributor, out: Path, on_answer: Callable[[str], None] = lambda headline: None
) -> tuple[str, ...]:
    """Answer every example and write them to `out`, whole or not at all; the ids of the answers."""
    with atomic.writing_folder(out, replace=True) as folder:
        store = FolderStore(folder)
        listed = []
        for example in EXAMPLES:
            listed.append(Listed(_answer(attributor, store, example), example.note))
            on_answer(example.prompt or SQUARE)
        write_list(folder, listed)
    return tuple(entry.id for entry in listed)


def _answer(attributor: Attributor, store: FolderStore, example: Example) -> str:
    original, name = _picture(attributor, example)
    method, picture = ForwardInf(), read_picture(original, name=name)
    query = attributor.query(picture.rgb, example.prompt, picture.sha256)
    *_, last = attributor.follow(query, method)
    answer = answer_of(attributor, query, method, last)
    record = record_of(answer, attributor.index, LISTED, notes=picture.notes, file_name=name)
    return store.save(record, as_csv(record, record.results), original, original).id


def _picture(attributor: Attributor, example: Example) -> tuple[bytes, str]:
    """A PNG and its name."""
    if example.prompt:
        picture = attributor.model.generate(GenerationRequest(example.prompt, example.seed))
        name = f"{example.prompt.partition(',')[0].replace(' ', '-')}.png"
    else:
        picture, name = red_square(attributor.model.picture_size), SQUARE
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue(), name


def red_square(side: int) -> Image.Image:
    picture = Image.new("RGB", (side, side), "white")
    margin = side * 3 // 16
    ImageDraw.Draw(picture).rectangle((margin, margin, side - margin - 1, side - margin - 1), fill=(214, 40, 40))
    return picture
