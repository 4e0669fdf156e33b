"""Running the answers of a pack again, with the model and the index at hand."""

from __future__ import annotations

from contextlib import closing
from math import isclose
from typing import TYPE_CHECKING, Any

from ..attribution.answer import answer_of
from ..attribution.shortlist import Effort
from ..examples.decoding import read_picture
from ..methods.registry import load_method
from ..records.record import Record
from ..records.recording import record_of

if TYPE_CHECKING:
    from ..attribution.attributor import Attributor
    from .verify import Pack

TOLERANCE = 1e-3  # relative, of scores: the last bits differ from one kind of device to another


def differences(pack: Pack, attributor: Attributor) -> list[str]:
    """In what answers given now are not those of the pack, a sentence for each; empty where they are the same."""
    found = []
    for picture in pack.answered:
        where, answer = f"picture {picture['number']}", picture["answer"]
        index = attributor.index
        if (answer["model"], answer["index"]) != (index.info.fingerprint, index.fingerprint):
            found.append(f"{where}: it was answered with another model or index than these")
            continue
        before = pack.record_of(picture)
        now = _answered(pack.files[picture["original"]], picture, before, attributor)
        if difference := _difference(before, now):
            found.append(f"{where}: {difference}")
    return found


def _answered(original: bytes, picture: dict[str, Any], before: Record, attributor: Attributor) -> Record:
    read = read_picture(original, name=picture["original"])
    method = load_method(before.method.name, **before.method.settings)
    effort = Effort.to_decide(before.weighed.first) if before.weighed else None
    query = attributor.query(read.rgb, before.query.prompt, read.sha256)
    with closing(attributor.follow(query, method, effort)) as sweep:
        *_, last = sweep
    return record_of(answer_of(attributor, query, method, last), attributor.index, len(before.results))


def _difference(before: Record, now: Record) -> str:
    if before.verdict != now.verdict:
        return f"the verdict was “{before.verdict}” and is “{now.verdict}”"
    scores = {match.id: match.score for match in now.results}
    for match in before.results:
        if match.id not in scores:
            return f"“{match.id}”, which was rank {match.rank}, is not among the first any more"
        if not isclose(match.score, scores[match.id], rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            return f"the score of “{match.id}” was {match.score:.4f} and is {scores[match.id]:.4f}"
    return ""
