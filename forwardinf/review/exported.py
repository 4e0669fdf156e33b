"""The matches of a case as rows: each with its picture, what the machine says, and what people decided."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from ..records.csv import inert
from .agreement import labelled
from .dossier import Dossier

COLUMNS = (
    *("case", "picture", "query_sha256", "file_name", "prompt", "verdict", "answered_at"),
    *("rank", "best_rank", "worst_rank", "match", "score", "similarity", "p_value", "stands_out"),
    *("caption", "creator", "licence", "licence_url", "source_url", "decisions"),
)


def rows_of(dossier: Dossier) -> Iterator[dict[str, object]]:
    """One row for each match, in the order of pictures and ranks; one for a picture without any."""
    for entry in dossier.entries:
        picture, finding = entry.picture, entry.finding
        asked = {
            **{"case": dossier.case.name, "picture": picture.number, "query_sha256": picture.sha256},
            **{"file_name": picture.file_name, "prompt": picture.prompt},
            **{
                "verdict": finding.verdict if finding else None,
                "answered_at": finding.answered_at if finding else None,
            },
        }
        on_picture = "; ".join(labelled(one) for one in entry.standing if one.match is None)
        if finding is None:
            yield {**dict.fromkeys(COLUMNS), **asked, "decisions": on_picture}
            continue
        for match in finding.matches:
            own = "; ".join(labelled(one) for one in entry.standing if one.match == match.example_id)
            values = {name: getattr(match, name) for name in COLUMNS if hasattr(match, name)}
            decisions = "; ".join(filter(None, (own, on_picture)))
            yield {**asked, "match": match.example_id, **values, "decisions": decisions}


def as_csv(dossier: Dossier) -> str:
    """The rows beneath one header line (RFC 4180); what is unknown is empty, and no cell is run as a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows_of(dossier):
        cells = (row[name] for name in COLUMNS)
        writer.writerow([inert(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()
