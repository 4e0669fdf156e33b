"""Pictures of cases, and what a case can be downloaded as."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import Response

from ...review.cases import numbered_case, numbered_picture
from ...review.dossier import Dossier
from ...review.exported import as_csv, rows_of
from ...review.pack import packed
from ...review.report import report_as_html
from ...review.report_pdf import report_as_pdf
from ...review.seal import load_key
from .desk import Desk

DAY = "private, max-age=86400"


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/cases/{case_id}")

    def picture(case_id: int, number: int) -> Response:
        chosen = numbered_picture(desk.database, numbered_case(desk.database, case_id), number)
        return Response(desk.png_of(chosen), media_type="image/png", headers={"Cache-Control": DAY})

    router.add_api_route("/{number:int}/picture.png", picture)
    for name, kind, written in _downloads(desk):
        router.add_api_route(f"/{name}", _download_of(desk, name, kind, written))
    return router


def _downloads(desk: Desk) -> list[tuple[str, str, Callable[[Dossier], bytes]]]:
    """The name, the media type and the content of each file that a case can be downloaded as."""

    def pack(dossier: Dossier) -> bytes:
        key = load_key(desk.signing_key) if desk.signing_key else None
        return packed(dossier, desk.database, key, desk.timestamp_url)

    return [
        ("report.html", "text/html", lambda dossier: report_as_html(dossier).encode()),
        ("report.pdf", "application/pdf", report_as_pdf),
        ("evidence.zip", "application/zip", pack),
        ("matches.csv", "text/csv", lambda dossier: as_csv(dossier).encode()),
        ("matches.json", "application/json", _as_json),
    ]


def _as_json(dossier: Dossier) -> bytes:
    return (json.dumps(list(rows_of(dossier)), indent=1, ensure_ascii=False) + "\n").encode()


def _download_of(desk: Desk, name: str, kind: str, written: Callable[[Dossier], bytes]) -> Callable[[int], Response]:
    def download(case_id: int) -> Response:
        dossier = desk.gathered(case_id)
        file_name = quote(f"{dossier.case.name} {name}")
        saved = {"Content-Disposition": f"attachment; filename*=UTF-8''{file_name}", "Cache-Control": "no-store"}
        return Response(written(dossier), media_type=kind, headers=saved)

    return download
