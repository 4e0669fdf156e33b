"""`forwardinf case report | pack | export` and `forwardinf verify`: what proves a decision, and whether it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import load_settings
from ..errors import DamagedAsset, ForwardInfError, InvalidRequest, StorageFailed
from ..files import atomic
from ..visible import on_a_line
from .case import Name, ResultsFolder, case, open_database, results_folder
from .options import EmbedderFolder, IndexFolder, Lora, Model, TorchDevice, load_attributor, require_folder_of

if TYPE_CHECKING:
    from ..review.database import Database
    from ..review.dossier import Dossier, Thumbnail

Out = Annotated[Path, typer.Option("-o", "--out", help="file to write")]


@case.command("report")
def case_report(name: Name, out: Out, index: IndexFolder = None, results: ResultsFolder = None) -> None:
    """Write the report of a case, as .html or .pdf."""
    _require_ending(out, ".html", ".pdf")
    dossier, _ = _gathered(name, index, results)
    if out.suffix == ".pdf":
        from ..review.report_pdf import report_as_pdf

        _write(out, report_as_pdf(dossier))
    else:
        from ..review.report import report_as_html

        _write(out, report_as_html(dossier).encode())


@case.command("export")
def case_export(name: Name, out: Out, results: ResultsFolder = None) -> None:
    """Write one row per match with what people decided, as .csv or .json."""
    from ..review.exported import as_csv, rows_of

    _require_ending(out, ".csv", ".json")
    dossier, _ = _gathered(name, None, results, thumbnails=False)
    as_json = json.dumps(list(rows_of(dossier)), indent=1, ensure_ascii=False) + "\n"
    _write(out, (as_csv(dossier) if out.suffix == ".csv" else as_json).encode())


@case.command("pack")
def case_pack(name: Name, out: Out, index: IndexFolder = None, results: ResultsFolder = None) -> None:
    """Write the evidence pack of a case: reports, decisions, answers, original bytes, and a manifest of them."""
    from ..review.pack import packed
    from ..review.seal import load_key
    from ..review.text import many

    settings = load_settings()
    _require_ending(out, ".zip")
    key = load_key(settings.signing_key) if settings.signing_key else None
    dossier, database = _gathered(name, index, results)
    _write(out, packed(dossier, database, key, settings.timestamp_url))
    held = f"{many(dossier.entries, 'picture')}, {many(dossier.decisions, 'decision')}"
    typer.echo(f"{out}: {held}, head {dossier.head}")


def verify(
    pack: Annotated[Path, typer.Argument(help="made by `case pack`")],
    key: Annotated[Path | None, typer.Option(help="public key (PEM) of the one who must have signed it")] = None,
    authority: Annotated[Path | None, typer.Option(help="certificate (PEM) behind the time stamp server")] = None,
    again: Annotated[bool, typer.Option("--again", help="run the answers again and compare")] = False,
    index: IndexFolder = None,
    model: Model = None,
    lora: Lora = None,
    embedder: EmbedderFolder = None,
    device: TorchDevice = None,
) -> None:
    """Check an evidence pack without any network; what was tampered with is named."""
    from ..review.again import differences
    from ..review.seal import load_public_key
    from ..review.verify import verified

    checked = verified(pack, load_public_key(key) if key else None, authority)
    for remark in checked.remarks:
        typer.echo(on_a_line(remark))
    if checked.faults:
        raise DamagedAsset(f"“{pack.name}” is not as it was made: {' '.join(checked.faults)}")
    if again:
        found = differences(
            checked, load_attributor(index, None, None, model=model, lora=lora, embedder=embedder, device=device)
        )
        if found:
            raise DamagedAsset(f"Run again, “{pack.name}” comes out otherwise: {'; '.join(found)}.")
        typer.echo(f"{len(checked.answered)} answers run again, and the same")
    typer.echo(f"{pack}: whole")


def _gathered(name: str, index: Path | None, results: Path | None, thumbnails: bool = True) -> tuple[Dossier, Database]:
    from ..records.store import FolderStore
    from ..review.cases import load_case
    from ..review.dossier import gather

    database = open_database(results)
    chosen = load_case(database, name)
    shown = _thumbnails_of(index) if thumbnails else (lambda fingerprint, match: None)
    return gather(database, chosen, FolderStore(results_folder(results)), shown), database


def _thumbnails_of(index: Path | None) -> Thumbnail:
    """The thumbnails in an index, verified as they are read; none where it is not the index that answered."""
    from ..index.store import Index
    from ..review.thumbnails import thumbnails_in

    try:
        opened = Index.recorded_in(load_settings(index=index).index)
    except ForwardInfError as error:
        typer.echo(f"Without thumbnails: {error}", err=True)
        return lambda fingerprint, match: None

    return thumbnails_in(opened)


def _require_ending(out: Path, *endings: str) -> None:
    require_folder_of(out)
    if out.suffix not in endings:
        raise InvalidRequest(f"“{out.name}” must end in {' or '.join(endings)}.")


def _write(out: Path, content: bytes) -> None:
    try:
        atomic.write_bytes(out, content)
    except OSError as error:
        raise StorageFailed(
            f"“{out.name}” cannot be written: {error.strerror}. Make room or name another file."
        ) from error
    typer.echo(f"{out}: {len(content):,} bytes")
