"""Questions as the server's runs: how one is put, answered in its turn, and shown to whoever watches."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..attribution.shortlist import Effort
from ..errors import DamagedAsset, IndexMismatch
from ..examples.decoding import read_picture
from ..jobs.queue import Outcome, Run
from ..jobs.run import Asked
from ..methods.forward_inf import ForwardInf
from ..models.generation import GenerationRequest
from ..records.keeping import png_of
from ..records.store import Result
from ..stopping import heeding
from . import asking, results_view
from .asking import Question, Running, Stopped
from .query import WAITING
from .query_view import file_name
from .served import Served

GONE = "The picture of this question is no longer kept here. Give it again."


@dataclass(frozen=True)
class Given:
    """A picture that was given with a question."""

    sha256: str
    name: str
    data: bytes  # as they arrived


def ask(
    served: Served,
    picture: Given | GenerationRequest,
    prompt: str,
    method: ForwardInf,
    effort: Effort | None,
    again: bool = False,
) -> Run[Any]:
    """Put a question in line, about a picture or about one that is to be drawn first.

    One that is asked `again` is answered anew although an answer is kept.
    """
    source: dict[str, Any]
    if isinstance(picture, Given):
        source, original = {"sha256": picture.sha256, "file_name": picture.name}, picture.data
    else:
        source, original = {"sha256": None, "file_name": file_name(picture), "drawing": asdict(picture)}, None
    asked = Asked(
        **source,
        prompt=prompt,
        method=method.model_dump(mode="json"),
        effort=None if effort is None else asdict(effort),
        index=served.index.fingerprint,
        again=again,
    )
    return served.runs.ask(asked, original)


def answering(
    served: Served, run: Run[Any], original: bytes | None
) -> Generator[Running | Stopped, None, Outcome | None]:
    """The steps to the answer of a run, whose id is returned with a remark; None where it was stopped.

    Of whichever index of the app it was asked. Raises StopRequested where it was stopped before it had a picture, and
    IndexMismatch where it was asked, before a restart, of an index that is not served any more.
    """
    asked = run.record.asked
    of = served.of_index(asked.index)
    if of is None:
        raise IndexMismatch("This was asked of an index that is not in use any more. Ask it again.")
    served = of
    yield Running(results_view.preparing(WAITING))
    with served.lock:
        if original is None:
            original = yield from _drawn(served, run)
        question = Question(
            read_picture(original, name=asked.file_name),
            original,
            asked.file_name,
            asked.prompt,
            served.method.changed(**asked.method),
            asked.effort and Effort(**asked.effort),  # type: ignore[arg-type]
            run.stop,
        )
        for step in served.worker.steps(asking.answered(served, question)):
            if isinstance(step, Result):
                return step.id, step.again if asked.again else ""
            yield step
    return None


def _drawn(served: Served, run: Run[Any]) -> Generator[Running, None, bytes]:
    """The picture that a run asks to be drawn first."""
    if run.record.asked.drawing is None:
        raise DamagedAsset(GONE)
    request = GenerationRequest(**run.record.asked.drawing)
    yield Running(results_view.preparing("Generating the picture…"))

    def drawn() -> bytes:
        with heeding(run.stop.is_set):
            return png_of(served.attributor.model.generate(request))

    original = served.worker.call(drawn)
    served.runs.keep_picture(run, original)
    return original


def status_of(served: Served, run: Run[Any]) -> Running | Stopped:
    """What a page shows of a run that has no answer."""
    ahead = served.runs.ahead_of(run)
    if run.record.state == "waiting" and ahead:
        shown: Running | Stopped = Running(results_view.preparing(in_line(ahead)))
    elif isinstance(run.step, Stopped if run.ended else Running):
        shown = run.step
    elif run.ended:
        shown = Stopped(results_view.stopped(0, served.index.count, served.held_out))
    else:
        shown = Running(results_view.preparing(WAITING))
    return replace(shown, status=results_view.of_run(run.id, shown.status))


def in_line(ahead: int) -> str:
    """How long the line is; nobody's question is called another's, as they may all be one person's."""
    return "One question is answered before this one…" if ahead == 1 else f"{ahead} questions are answered before this…"
