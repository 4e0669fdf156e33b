"""An answer as a spreadsheet: every training image, best first."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import astuple
from typing import TYPE_CHECKING

from ..examples.credits import credits_of
from ..visible import visible
from .record import FROM_CATALOG, Match, Record
from .text import verdict_of

if TYPE_CHECKING:
    from ..examples.catalog import Catalog, TrainingImage

CREDIT = ("caption", "collection", "creator", "licence", "licence_url", "source_url")
COLUMNS = (
    *("id", "rank", "score", "standard_error", "p_value", "stands_out", "best_rank", "worst_rank"),
    *("similarity", "similarity_rank", *CREDIT, "query_sha256", "prompt", "fallback_caption", "verdict"),
    "answered_at",
)
# At the beginning of a cell, or of what is one by other separators, also behind space and quotes; in either width.
FORMULA = re.compile(r"""((?:\A|[;\t\r\n])[\s"]*)([=+\-@＝＋－＠])""")


def as_csv(record: Record, matches: Iterable[Match]) -> str:
    """The matches of an answer, one row each, beneath one header line (RFC 4180).

    What is unknown is empty. The query, its prompt and the verdict stand in every row, so that rows of several answers
    can be put together. Scores are written in full: reading them back gives the same floats. A cell that a spreadsheet
    would run as a formula is led by an apostrophe, also one where semicolons or tabs separate cells.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    query, verdict = record.query, verdict_of(record).headline
    answered = record.answered_at.isoformat() if record.answered_at else ""
    asked = [query.sha256, *map(inert, (query.prompt, query.fallback_caption or "", verdict)), answered]
    for match in matches:
        credit = [inert(getattr(match, key)) for key in CREDIT]
        writer.writerow([inert(match.id), *_numbers(match), *credit, *asked])
    return text.getvalue()


def credits_as_csv(catalog: Catalog) -> str:
    """The sources of a training set, one row each, beneath one header line: for a summary of training data."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("source", "creator", "licence", "licence_url", "url", "images", "held_out"))
    for credit, images, held_out in credits_of(catalog):
        writer.writerow([*map(inert, astuple(credit)), images, held_out])
    return text.getvalue()


def matches_in(text: str, catalog: Catalog) -> list[Match]:
    """The images in a spreadsheet that `as_csv` wrote, best first, without what each draw showed.

    Images that the catalog does not have under the same id are left out.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [_match_of(row, catalog.by_id[row["id"]]) for row in rows if row["id"] in catalog.by_id]


def _match_of(row: dict[str, str], image: TrainingImage) -> Match:
    return Match(
        id=image.id,
        rank=int(row["rank"]),
        score=float(row["score"]),
        standard_error=float(row["standard_error"]) if row["standard_error"] else None,
        p_value=float(row["p_value"]) if row["p_value"] else None,
        stands_out={"yes": True, "no": False}.get(row["stands_out"]),
        rank_range=(int(row["best_rank"]), int(row["worst_rank"])),
        similarity=float(row["similarity"]),
        similarity_rank=int(row["similarity_rank"]),
        per_draw=(),
        size_draws=0,
        is_fallback_caption=image.caption == row["fallback_caption"],
        **{key: getattr(image, key) for key in FROM_CATALOG},
    )


def _numbers(match: Match) -> list[object]:
    yes_or_no = {True: "yes", False: "no", None: None}[match.stands_out]
    sureness = [match.standard_error, match.p_value, yes_or_no, *match.rank_range]
    return [match.rank, match.score, *sureness, match.similarity, match.similarity_rank]


def inert(cell: str) -> str:
    """A cell that no spreadsheet runs (OWASP, CSV injection), with what it hides made visible.

    Where semicolons or tabs separate cells, each may begin another one, and a line end another row.
    """
    shown = FORMULA.sub(r"\1'\2", visible(cell))
    return f"'{shown}" if shown.startswith(("\t", "\r")) else shown
