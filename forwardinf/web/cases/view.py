"""HTML of the reviewers' pages: what the machine found and what people decided, each in a place of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from ...review.agreement import Agreement, Contradiction
from ...review.cases import Case, Picture
from ...review.chain import VERDICTS, Decision
from ...review.overview import ORDERS, STATUSES, Line, Wanted
from ..frame import Frame
from ..templates import render
from .runs import CaseProgress

UrlOf = Callable[[str | None, str | None], str | None]  # of a training image, by its id and its index's fingerprint


class Views(Frame):
    """The pages of cases, and their parts."""

    def cases(self, found: Sequence[Case]) -> str:
        return self.page("Cases", render("cases.html", root=self.root, cases=found), "cases.js", "cases")

    def case(self, case: Case, lines: str, wanted: Wanted, run: str) -> str:
        body = render(
            "case.html",
            root=self.root,
            case=case,
            lines=lines,
            wanted=wanted,
            run=run,
            statuses=STATUSES,
            orders=ORDERS,
            verdicts=VERDICTS,
        )
        return self.page(case.name, body, "case.js", "cases")

    def lines(self, case: Case, found: Sequence[Line], url_of: UrlOf) -> str:
        """The pictures of a case as rows."""
        rows = [(line, url_of(line.best, line.index_fingerprint), *_said(line.people)) for line in found]
        return render("case_lines.html", root=self.root, case=case, rows=rows)

    def run(self, case: Case, progress: CaseProgress | None) -> str:
        return render("case_run.html", case=case, progress=progress)

    def reviewers(
        self, case: Case, agreement: Agreement, found: Sequence[Contradiction], pictures: Sequence[Picture]
    ) -> str:
        """How far they agree, and decisions on near-duplicates that exclude each other."""
        by_sha256 = {picture.sha256: picture for picture in pictures}
        pairs = [[(by_sha256[one.picture], one) for one in (pair.first, pair.second)] for pair in found]
        return render(
            "case_reviewers.html",
            root=self.root,
            case=case,
            agreement=agreement,
            contradictions=list(zip(found, pairs, strict=True)),
        )


def _said(people: Sequence[Decision]) -> tuple[list[Decision], list[str]]:
    """The decisions on a picture as a whole, and in short those on its matches."""
    as_whole = [one for one in people if one.match is None]
    on_matches = sorted((one for one in people if one.match is not None), key=lambda one: one.author)
    by_author = groupby(on_matches, key=lambda one: one.author)
    return as_whole, [f"{author}: {_counted(list(made))}" for author, made in by_author]


def _counted(made: Sequence[Decision]) -> str:
    return f"{len(made)} match{'' if len(made) == 1 else 'es'} decided"
