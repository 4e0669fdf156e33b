"""The pages of cases: all of them, one with its pictures, one picture with its matches."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ...review.agreement import agreement_of, contradictions
from ...review.cases import list_cases, numbered_case, numbered_picture, pictures_of
from ...review.decisions import decisions_of
from ...review.findings import phashes_of
from ...review.overview import Wanted, lines_of, next_undecided
from . import picture_view
from .desk import Desk
from .picture_view import reviewed
from .view import Views


class Pages:
    """Each method answers one address."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def cases(self, request: Request) -> str:
        return self.frame(request).cases(list_cases(self.desk.database))

    def case(
        self,
        request: Request,
        case_id: int,
        status: str = "all",
        verdict: str = "",
        search: str = "",
        order: str = "number",
        part: bool = False,
    ) -> str:
        """A case with the pictures that are wanted; as a `part` these alone."""
        database, frame = self.desk.database, self.frame(request)
        case = numbered_case(database, case_id)
        wanted = Wanted(status, verdict or None, search, order)
        lines = frame.lines(case, lines_of(database, case, wanted), self.desk.url_of)
        run = frame.run(case, self.desk.runs.of(case))
        return lines if part else frame.case(case, lines, wanted, run)

    def picture(self, request: Request, case_id: int, number: int, part: bool = False) -> str:
        """A picture with its matches; as a `part` without what stays when another one follows."""
        database, frame = self.desk.database, self.frame(request)
        case = numbered_case(database, case_id)
        found = reviewed(database, case, numbered_picture(database, case, number), frame.author)
        shown = picture_view.picture(found, frame.root, self.desk.url_of)
        if part:
            return shown
        whole = picture_view.bench(shown, frame.author, frame.signed_in)
        return frame.page(f"{number} · {case.name}", whole, "review.js", "cases")

    def reviewers(self, request: Request, case_id: int) -> str:
        """By itself, as the library that computes agreement takes seconds to load."""
        database, frame = self.desk.database, self.frame(request)
        case = numbered_case(database, case_id)
        made = decisions_of(database, case)
        found = contradictions(made, phashes_of(database, case))
        return frame.reviewers(case, agreement_of(made), found, pictures_of(database, case))

    def next(self, request: Request, case_id: int, after: int = 0) -> Response:
        """On to the next picture that the reviewer has not decided as a whole."""
        case, frame = numbered_case(self.desk.database, case_id), self.frame(request)
        line = next_undecided(self.desk.database, case, frame.author or None, after)
        where = f"{frame.root}/cases/{case_id}"
        return RedirectResponse(f"{where}/{line.picture.number}" if line else f"{where}?status=decided", 303)

    def frame(self, request: Request) -> Views:
        return Views.of(request, self.desk.navigation)


def routes(desk: Desk) -> APIRouter:
    router, pages = APIRouter(prefix="/cases", default_response_class=HTMLResponse), Pages(desk)
    router.add_api_route("", pages.cases)
    router.add_api_route("/{case_id:int}", pages.case)
    router.add_api_route("/{case_id:int}/{number:int}", pages.picture)
    router.add_api_route("/{case_id:int}/reviewers", pages.reviewers)
    router.add_api_route("/{case_id:int}/next", pages.next)
    return router
