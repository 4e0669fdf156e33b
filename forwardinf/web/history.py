"""The page of all kept answers, a sheet of those that are sought, and two of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast, get_args

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse

from ..errors import DamagedAsset, InvalidRequest, MissingAsset
from ..records.history import Kept, Outcome, Wanted
from ..records.store import Result
from ..records.text import licence_name, rank_range, verdict_of
from ..review.findings import cases_with
from .cases import Desk
from .frame import Frame
from .templates import render

SHOWN = 50  # answers on a page
ON_A_SHEET, IMAGES_ON_A_SHEET = 100, 3  # answers, and training images of each
PLACE = "history"
OUTCOMES: tuple[str, ...] = get_args(Outcome)


class HistoryPages:
    """Each method answers one address."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def answers(
        self,
        request: Request,
        search: str = "",
        outcome: str = "",
        index: str = "",
        page: int = 1,
        part: bool = False,
    ) -> str:
        """The kept answers that are sought; as a `part` these alone."""
        wanted = _wanted(search, outcome, index)
        frame, everything = Frame.of(request, self.desk.navigation), self.desk.history.answers()
        lines = _lines(wanted.of(everything), max(1, page), frame.root)
        if part:
            return lines
        body = render(
            "history.html",
            root=frame.root,
            wanted=wanted,
            lines=lines,
            outcomes=OUTCOMES,
            indexes=sorted({(one.index, one.index_fingerprint) for one in everything}),
            kept=len(everything),
        )
        return frame.page("History", body, "history.js", PLACE)

    def sheet(self, request: Request, search: str = "", outcome: str = "", index: str = "") -> str:
        """The answers that are sought on one sheet, each with its first images, to be looked over or printed."""
        frame = Frame.of(request, self.desk.navigation)
        found, sides = _wanted(search, outcome, index).of(self.desk.history.answers()), []
        for one in found[:ON_A_SHEET]:
            with suppress(MissingAsset, DamagedAsset):  # deleted meanwhile, or not as it was kept
                sides.append(self._side(self.desk.served.results.load(one.id), frame.root))
        body = render(
            "history_sheet.html",
            root=frame.root,
            sides=sides,
            found=len(found),
            images=IMAGES_ON_A_SHEET,
            licence_name=licence_name,
        )
        return frame.page("Contact sheet", body, place=PLACE)

    def two(self, request: Request, first: str, second: str) -> str:
        """Two answers side by side; raises MissingAsset where one is not kept."""
        frame = Frame.of(request, self.desk.navigation)
        sides = [self._side(self.desk.served.results.load(result_id), frame.root) for result_id in (first, second)]
        shared = set.intersection(*({match.id for match in side["record"].results} for side in sides))
        body = render(
            "history_two.html",
            root=frame.root,
            sides=sides,
            shared=shared,
            licence_name=licence_name,
            rank_range=rank_range,
        )
        return frame.page("Two answers", body, place=PLACE)

    def delete(self, result_id: str) -> dict[str, Any]:
        """Remove an answer for good; raises InvalidRequest where it is evidence in a case."""
        if rests := cases_with(self.desk.database, result_id):
            named = ", ".join(f"“{case}”" for case in rests)
            raise InvalidRequest(f"This answer is evidence in {named}, so it is not deleted.")
        self.desk.history.delete(result_id)
        return {"deleted": result_id}

    def _side(self, result: Result, root: str) -> dict[str, Any]:
        record = result.record
        images = [(match, self.desk.url_of(match.id, record.index.fingerprint)) for match in record.results]
        matches = [(match, f"{root}/{url}" if url else None) for match, url in images]
        return {"id": result.id, "record": record, "verdict": verdict_of(record), "matches": matches}


def _wanted(search: str, outcome: str, index: str) -> Wanted:
    return Wanted(search, cast(Outcome, outcome) if outcome in OUTCOMES else None, index or None)


def _lines(found: Sequence[Kept], page: int, root: str) -> str:
    start = (page - 1) * SHOWN
    last = max(1, -(-len(found) // SHOWN))
    return render(
        "history_lines.html", root=root, found=len(found), shown=found[start : start + SHOWN], page=page, last=last
    )


def add_to(app: FastAPI, desk: Desk) -> None:
    router, pages = APIRouter(prefix=f"/{PLACE}", default_response_class=HTMLResponse), HistoryPages(desk)
    router.add_api_route("", pages.answers)
    router.add_api_route("/two", pages.two)
    router.add_api_route("/sheet", pages.sheet)
    app.include_router(router)
    app.add_api_route(f"/{PLACE}/{{result_id}}/delete", pages.delete, methods=["POST"])
