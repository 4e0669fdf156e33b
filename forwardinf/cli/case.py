"""`forwardinf case`: pictures of a dispute, what the machine says of each, and what people decide."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import RESULTS, Settings, load_settings
from ..errors import InvalidRequest, InvalidSettings
from ..visible import on_a_line
from .options import AsJson, EmbedderFolder, IndexFolder, Lora, Model, TorchDevice, load_attributor, progress_bar

if TYPE_CHECKING:
    from ..review.cases import Added
    from ..review.database import Database
    from ..review.run import CaseRun

case = typer.Typer(no_args_is_help=True, help="Cases: pictures to review, decisions on them, and proof.")

Name = Annotated[str, typer.Argument(metavar="CASE", help="name of the case")]
Which = Annotated[str, typer.Argument(metavar="PICTURE", help="its number, file name, or the beginning of its SHA-256")]
Reason = Annotated[str, typer.Option(help="what the decision rests on, in a sentence")]
Author = Annotated[str, typer.Option(help="who decides")]
ResultsFolder = Annotated[Path | None, typer.Option("--results", help="folder of finished attributions")]


@case.command("add")
def case_add(
    name: Name,
    pictures: Annotated[list[Path], typer.Argument(help="picture files, or folders of them")],
    prompt: Annotated[
        str, typer.Option(help="what they were generated from; a folder's metadata.jsonl goes first")
    ] = "",
) -> None:
    """Add pictures to a case, which is begun with the first one."""
    from ..review.cases import add_pictures, checked_name
    from ..review.given import given_from

    checked_name(name)
    database = open_database()
    with progress_bar("picture") as bar:
        added = add_pictures(database, name, (one for one in given_from(pictures, prompt) if bar.update() or True))
    _tell_added(name, added)


@case.command("run")
def case_run(
    name: Name,
    index: IndexFolder = None,
    model: Model = None,
    lora: Lora = None,
    embedder: EmbedderFolder = None,
    device: TorchDevice = None,
    results: ResultsFolder = None,
    training_images: Annotated[
        Path | None,
        typer.Option(help="folder of the training images, whose files are searched for rights and opt-outs"),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="weigh every training image, not only the likely ones")] = False,
) -> None:
    """Attribute each picture of a case that has no answer yet; a run that was cut off goes on."""
    from ..attribution.shortlist import Effort
    from ..examples import metadata
    from ..records.store import FolderStore
    from ..review.cases import load_case
    from ..review.run import TOP, CaseRun

    database = open_database(results)
    chosen = load_case(database, name)
    files = metadata.training_images(training_images) if training_images else None
    attributor = load_attributor(index, None, None, model=model, lora=lora, embedder=embedder, device=device)
    store, effort = FolderStore.open(results_folder(results)), None if every else Effort.to_decide(TOP)
    _report(CaseRun(database, attributor, store, attributor.default_method, effort, files), chosen.name)


@case.command("list")
def case_list(as_json: AsJson = False) -> None:
    """All cases, with how far each one is."""
    from ..review.cases import list_cases

    found = list_cases(open_database())
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False))
        return
    for one in found:
        typer.echo(f"{one.name}: {one.pictures} pictures, {one.answered} answered, {one.decisions} decisions")


@case.command("show")
def case_show(
    name: Name,
    picture: Annotated[str | None, typer.Option(help="one picture, with its matches and every decision on it")] = None,
    status: Annotated[str, typer.Option(help="all | unanswered | undecided | decided | stands out")] = "all",
    verdict: Annotated[str | None, typer.Option(help="only pictures that somebody's decision says this of")] = None,
    search: Annotated[str, typer.Option(help="in names, prompts, and credits of matches")] = "",
    sort: Annotated[str, typer.Option(help="number | score | similarity | name")] = "number",
    author: Annotated[str | None, typer.Option(help="whose decisions count; default: anybody's")] = None,
    after: Annotated[int | None, typer.Option(help="only the next undecided picture after this number")] = None,
    as_json: AsJson = False,
) -> None:
    """The pictures of a case: best match, what the machine says, and what people decided."""
    from ..review.cases import find_picture, load_case
    from ..review.overview import Wanted, lines_of, next_undecided
    from ..review.text import lines_as_table, picture_as_text

    database = open_database()
    chosen = load_case(database, name)
    if picture is not None:
        typer.echo(picture_as_text(database, chosen, find_picture(database, chosen, picture)))
        return
    if after is not None:
        following = next_undecided(database, chosen, author, after)
        lines = [following] if following else []
    else:
        lines = lines_of(database, chosen, Wanted(status, verdict, search, sort, author))
    as_text = json.dumps([asdict(line) for line in lines], indent=1, ensure_ascii=False)
    typer.echo(as_text if as_json else lines_as_table(lines))


@case.command("decide")
def case_decide(
    name: Name,
    picture: Which,
    verdict: Annotated[str, typer.Argument(help="infringes | licensed | unsure | “no match”")],
    reason: Reason,
    author: Author,
    match: Annotated[str | None, typer.Option(help="id of the training image; default: the picture as a whole")] = None,
) -> None:
    """Record a decision on a picture or on one of its matches."""
    from ..review.cases import find_picture, load_case
    from ..review.decisions import decide

    database = open_database()
    chosen = load_case(database, name)
    found = find_picture(database, chosen, picture)
    made = decide(database, chosen, found, verdict, reason=reason, author=author, match=match)
    typer.echo(f"decision {made.number} of “{chosen.name}”: {made.hash}")


@case.command("withdraw")
def case_withdraw(
    name: Name, number: Annotated[int, typer.Argument(help="of the decision")], reason: Reason, author: Author
) -> None:
    """Take a decision back, by a further one."""
    from ..review.cases import load_case
    from ..review.decisions import withdraw

    database = open_database()
    chosen = load_case(database, name)
    made = withdraw(database, chosen, number, reason=reason, author=author)
    typer.echo(f"decision {made.number} of “{chosen.name}” withdraws decision {number}: {made.hash}")


@case.command("agreement")
def case_agreement(name: Name) -> None:
    """How far reviewers agree, and decisions that contradict each other on near-duplicates."""
    from ..review.agreement import agreement_of, contradictions
    from ..review.cases import load_case
    from ..review.decisions import decisions_of
    from ..review.findings import phashes_of
    from ..review.text import agreement_as_text

    database = open_database()
    chosen = load_case(database, name)
    made = decisions_of(database, chosen)
    typer.echo(agreement_as_text(agreement_of(made), contradictions(made, phashes_of(database, chosen))))


@case.command("log")
def case_log(name: Name, as_json: AsJson = False) -> None:
    """Every decision of a case in its order, after checking that none was changed or removed."""
    from ..review.cases import load_case
    from ..review.decisions import decisions_of
    from ..review.text import decision_as_text

    database = open_database()
    chosen = load_case(database, name)
    made = decisions_of(database, chosen)
    if as_json:
        typer.echo(json.dumps([one.as_json() for one in made], indent=1, ensure_ascii=False))
        return
    for one in made:
        typer.echo(decision_as_text(one))


def results_folder(results: Path | None, settings: Settings | None = None) -> Path:
    """The folder of finished attributions that an option, a setting or the home folder names."""
    named = results or (settings or load_settings()).results
    try:
        return named or Path.home() / RESULTS
    except RuntimeError as error:
        raise InvalidSettings("There is no home folder for results. Name a folder by FORWARDINF_RESULTS.") from error


def open_database(results: Path | None = None) -> Database:
    """The database of cases that the settings name, by default beside the results."""
    from ..review.database import FILE_NAME, Database

    settings = load_settings()
    return Database.open(settings.review_url or results_folder(results, settings).parent / FILE_NAME)


def _report(run: CaseRun, name: str) -> None:
    from ..records.text import verdict_of
    from ..review.cases import load_case

    chosen, failed = load_case(run.database, name), 0
    with progress_bar("img") as bar:

        def follow(progress: object) -> None:
            bar.total = progress.total  # type: ignore[attr-defined]
            bar.update(progress.done - bar.n)  # type: ignore[attr-defined]

        for outcome in replace(run, on_progress=follow).outcomes(chosen):
            failed += outcome.result is None
            said = verdict_of(outcome.result.record).headline if outcome.result else outcome.problem
            bar.clear()
            typer.echo(f"{outcome.picture.number:>4} {on_a_line(f'{outcome.picture.file_name}: {said}')}")
            bar.reset()
    done = load_case(run.database, name)
    typer.echo(f"“{name}”: {done.answered} of {done.pictures} pictures answered")
    if failed:
        raise InvalidRequest(f"{failed} of the pictures could not be answered; they are named above.")


def _tell_added(name: str, added: Added) -> None:
    for sentence in (*added.known, *added.refused):
        typer.echo(on_a_line(sentence), err=True)
    many = "picture" if len(added.kept) == 1 else "pictures"
    typer.echo(f"“{name}”: {len(added.kept)} {many} added")
    if added.refused and not added.kept and not added.known:
        sys.exit(2)
