"""What the reviewers' pages ask for by POST, and its outcome as JSON."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ValidationError

from ...errors import InvalidRequest
from ...examples.decoding.picture import MAX_BYTES
from ...review.cases import Added, Case, Given, Picture, add_pictures, begin_case, numbered_case, numbered_picture
from ...review.chain import WITHDRAWN, standing
from ...review.database import Database, storable
from ...review.decisions import decide, decisions_of, withdraw
from .. import guard
from .desk import Desk
from .pages import Pages
from .picture_view import history

Sent = TypeVar("Sent", bound=BaseModel)
LONGEST_BODY = 64 * 1024  # bytes of JSON


class NewCase(BaseModel):
    name: str


class Decided(BaseModel):
    verdict: str
    reason: str
    author: str
    match: str | None = None
    seen: str  # the id of the answer that the page shows; empty for none


class Actions:
    """Each method answers one address."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.pages = desk, Pages(desk)

    async def begin(self, request: Request) -> dict[str, Any]:
        asked = await _sent(request, NewCase)
        case = await run_in_threadpool(begin_case, self.desk.database, asked.name)
        return {"url": f"{request.scope.get('root_path', '')}/cases/{case.id}"}

    async def add(self, request: Request, case_id: int, name: str, prompt: str = "") -> dict[str, Any]:
        """One picture, whose bytes are the body."""
        given = Given(
            PurePath(name).name or "picture", await _body(request, MAX_BYTES), prompt
        )  # a longer one is refused when it is read
        return await run_in_threadpool(self._add, case_id, given)

    def _add(self, case_id: int, given: Given) -> dict[str, Any]:
        case = numbered_case(self.desk.database, case_id)
        added = add_pictures(self.desk.database, case.name, [given])
        return {"kept": len(added.kept), "told": _told(added)}

    def run(self, request: Request, case_id: int) -> dict[str, Any]:
        case = numbered_case(self.desk.database, case_id)
        self.desk.runs.start(case)
        return self._run_of(request, case)

    def stop(self, request: Request, case_id: int) -> dict[str, Any]:
        case = numbered_case(self.desk.database, case_id)
        self.desk.runs.stop(case)
        return self._run_of(request, case)

    def state(self, request: Request, case_id: int) -> dict[str, Any]:
        return self._run_of(request, numbered_case(self.desk.database, case_id))

    async def decide(self, request: Request, case_id: int, number: int) -> dict[str, Any]:
        """A decision, on disk when this returns, and all decisions on the same as they are to be shown."""
        asked = await _sent(request, Decided)
        signed = asked.model_copy(update={"author": guard.name_of(request) or asked.author})
        return await run_in_threadpool(self._decide, case_id, number, signed)

    def _decide(self, case_id: int, number: int, asked: Decided) -> dict[str, Any]:
        case = numbered_case(self.desk.database, case_id)
        picture = numbered_picture(self.desk.database, case, number)
        record(self.desk.database, case, picture, asked)
        made = decisions_of(self.desk.database, case)
        return {"history": history([one for one in made if one.subject == (picture.sha256, asked.match)])}

    def _run_of(self, request: Request, case: Case) -> dict[str, Any]:
        progress = self.desk.runs.of(case)
        shown = self.pages.frame(request).run(case, progress)
        return {"html": shown, "runs": bool(progress and progress.runs), "done": progress.done if progress else 0}


def record(database: Database, case: Case, picture: Picture, asked: Decided) -> None:
    """Record a decision, or withdraw the one that stands; what is sent a second time is recorded once."""
    about = (picture.sha256, asked.match, storable(asked.author))
    stands = standing(decisions_of(database, case)).get(about)
    said = {"reason": asked.reason, "author": asked.author}
    if asked.verdict == WITHDRAWN:
        if stands:
            withdraw(database, case, stands.number, **said)
    elif not stands or (stands.verdict, stands.reason, stands.result) != (
        asked.verdict,
        storable(asked.reason),
        asked.seen,
    ):
        decide(database, case, picture, asked.verdict, match=asked.match, seen=asked.seen, **said)


def routes(desk: Desk) -> APIRouter:
    router, actions = APIRouter(prefix="/cases"), Actions(desk)
    router.add_api_route("", actions.begin, methods=["POST"])
    router.add_api_route("/{case_id:int}/pictures", actions.add, methods=["POST"])
    router.add_api_route("/{case_id:int}/run", actions.run, methods=["POST"])
    router.add_api_route("/{case_id:int}/run", actions.state, methods=["GET"])
    router.add_api_route("/{case_id:int}/{number:int}/decisions", actions.decide, methods=["POST"])
    router.add_api_route("/{case_id:int}/stop", actions.stop, methods=["POST"])
    return router


async def _body(request: Request, longest: int) -> bytes:
    """The body of a request; what is longer is read to its end, as the browser waits for that, and kept up to there."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk[: max(0, longest + 1 - len(content))]
    return bytes(content)


async def _sent(request: Request, kind: type[Sent]) -> Sent:
    try:
        return kind.model_validate_json(await _body(request, LONGEST_BODY))
    except ValidationError as error:
        raise InvalidRequest("The page sent something that cannot be read. Load it again.") from error


def _told(added: Added) -> str:
    return " ".join((*added.known, *added.refused))
