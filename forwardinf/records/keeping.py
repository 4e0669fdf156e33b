"""From an answer to what is kept of it: the record, every weighed image as CSV, and the picture in two forms.

And back again: the kept answer to a question that was asked before.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ..attribution.race import RACED
from ..attribution.shortlist import Effort
from ..attribution.stages import ALL_LIKELY, DECIDED
from ..errors import DamagedAsset, MissingAsset
from ..examples.decoding import Picture, to_square
from ..methods.protocol import AttributionMethod, settings_of
from .csv import as_csv
from .origin import compared, searched, with_origin
from .reading import reading_notes
from .record import Record
from .recording import matches_of, record_of
from .store import Asked, RecordStore, Result

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..attribution.answer import Answer
    from ..index.store import Index
    from ..models.protocol import PictureModel

QUERY_SIDE = 384  # pixels, of the picture that an answer keeps to be shown


def answered_before(
    store: RecordStore, index: Index, sha256: str, prompt: str, method: AttributionMethod, effort: Effort | None
) -> Result | None:
    """The kept answer to the same question: one that weighed every image, or else enough of them; None without one."""
    info = index.info
    asked = Asked(sha256, prompt, settings_of(method), info.fingerprint, info.tunable, index.fingerprint)
    ends = (RACED, DECIDED, ALL_LIKELY)
    enough = [(effort.first, ended.format(first=effort.first)) for ended in ends] if effort else []
    for weighed in (None, *enough):
        with suppress(MissingAsset, DamagedAsset):
            return store.find(replace(asked, weighed=weighed))
    return None


def keep(
    store: RecordStore,
    answer: Answer,
    index: Index,
    picture: Picture,
    original: bytes,
    *,
    name: str,
    top: int,
    seconds: float,
    model: PictureModel,
) -> Result:
    """Keep an answer about `picture`, a file `name` of `original` bytes, with its `top` images in the record.

    What the file says of the model it came from is compared with `model`.
    """
    stated, unread = searched(original)
    prompt = answer.query.fallback_caption or answer.query.prompt
    notes = (*picture.notes, *filter(None, [unread]), *reading_notes(model, prompt))
    record = record_of(answer, index, top, notes=notes, file_name=name, seconds=seconds)
    record = with_origin(record, compared(stated, model.spec) if stated else None)
    csv = as_csv(record, matches_of(answer, index.catalog))
    kept = store.save(record, csv, original, png_of(to_square(picture.rgb, QUERY_SIDE)))
    return kept if kept.record == record else replace(kept, again=beside(kept.record, record))


def beside(before: Record, again: Record) -> str:
    """What running a question again shows, beside the answer that was kept before."""
    first, second = ([(match.id, match.score) for match in record.results] for record in (before, again))
    if first == second:
        return "Run again: the same images with the same scores."
    if [example_id for example_id, _ in first] == [example_id for example_id, _ in second]:
        largest = max(abs(one - other) for (_, one), (_, other) in zip(first, second, strict=True))
        return f"Run again: the same images in the same order; scores differ by {largest:.2g} at most."
    shared = len(dict(first).keys() & dict(second).keys())
    return f"Run again: another order. {shared} of {len(first)} images are listed both times; the first answer is kept."


def png_of(picture: Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
