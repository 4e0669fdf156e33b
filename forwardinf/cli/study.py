"""`forwardinf study self-retrieval | calibration`: the studies that use the shipped index or another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    STUDIES,
    WORK,
    AsJson,
    Direction,
    FinishedTrials,
    IndexFolder,
    IndexMethod,
    LossBudget,
    MethodSettings,
    Model,
    ReportFile,
    Score,
    Steps,
    TorchDevice,
    Tunable,
    load_attributor,
    method_from,
    method_of_index,
    progress_bar,
    reporting_to,
    require_folder_of,
    tell,
)

if TYPE_CHECKING:
    from ..attribution.shortlist import Effort

study = typer.Typer(
    no_args_is_help=True, help="How well a method answers questions whose true answer is known. Every study resumes."
)

Likely = Annotated[
    bool, typer.Option("--likely", help="weigh the likely images alone, as answers do, and not every image")
]


@study.command("self-retrieval")
def self_retrieval(
    index: IndexFolder = None,
    queries: Annotated[int, typer.Option(min=1, help="number of random training images to query with")] = 200,
    candidates: Annotated[
        int, typer.Option(min=0, help="number of images ranked for each; 0: all training images")
    ] = 0,
    variants: Annotated[
        str, typer.Option(help="comma-separated: clean, jpeg, resized, cropped, or degraded for the last three in turn")
    ] = "clean,degraded",
    prompt: Annotated[
        str, typer.Option(help="caption: that of the image; none: as for pictures whose prompt is unknown")
    ] = "caption",
    images: Annotated[Path | None, typer.Option(help="folder that the index was built from")] = None,
    model: Model = None,
    device: TorchDevice = None,
    method: IndexMethod = None,
    tunable: Tunable = None,
    steps: Steps = None,
    direction: Direction = None,
    loss_budget: LossBudget = None,
    score: Score = None,
    setting: MethodSettings = None,
    seed: Annotated[int, typer.Option(help="seed of the choice of queries and candidates")] = 0,
    likely: Likely = False,
    journal: FinishedTrials = STUDIES,
    work: Annotated[Path, typer.Option(help="folder whose cache/ keeps what methods reuse")] = WORK,
    as_json: AsJson = False,
    out: ReportFile = None,
) -> None:
    """The rank of a training image when the image itself, or a degraded copy, is the query; resumes."""
    from ..studies import self_retrieval as room
    from ..studies.journal import Journal

    require_folder_of(out)
    names = tuple(dict.fromkeys(name.strip() for name in variants.split(",")))
    wanted = room.SelfRetrieval(queries, candidates, names, prompt, seed, effort_of(likely))
    flags = {"steps": steps, "direction": direction, "loss_budget": loss_budget, "score": score}
    by = method_from(method or method_of_index(index), setting, **flags)
    attributor = load_attributor(index, tunable, work / "cache", model=model, device=device)
    pictures = room.pictures_of(attributor.index, images)
    finished = Journal(journal / "self_retrieval.jsonl")
    with progress_bar("trial") as bar:
        trials = room.run(wanted, attributor, by, pictures, finished, reporting_to(bar))
    report = room.as_report(wanted, wanted.settings(attributor, by), trials)
    tell(report, room.as_table, as_json, out)


@study.command("calibration")
def calibration(
    index: IndexFolder = None,
    nulls: Annotated[int, typer.Option(min=1, help="number of pictures unrelated to the training set")] = 400,
    repeated: Annotated[int, typer.Option(min=0, help="number of repeated training images, generated again")] = 40,
    model: Model = None,
    device: TorchDevice = None,
    method: IndexMethod = None,
    tunable: Tunable = None,
    setting: MethodSettings = None,
    likely: Likely = False,
    journal: FinishedTrials = STUDIES,
    work: Annotated[Path, typer.Option(help="folder whose cache/ keeps what methods reuse")] = WORK,
    as_json: AsJson = False,
    out: ReportFile = None,
) -> None:
    """How often an image stands out where none should, and where one must; resumes."""
    from ..studies import calibration as room
    from ..studies.journal import Journal

    require_folder_of(out)
    by = method_from(method or method_of_index(index), setting)
    attributor = load_attributor(index, tunable, work / "cache", model=model, device=device)
    finished = Journal(journal / "calibration.jsonl")
    with progress_bar("query") as bar:
        wanted = room.Calibration(nulls, repeated)
        trials = room.run(wanted, attributor, by, finished, reporting_to(bar), effort_of(likely))
    tell(room.as_report(trials), room.as_table, as_json, out)


@study.command("disguised")
def disguised(
    index: IndexFolder = None,
    images: Annotated[int, typer.Option(min=1, help="training images, each in six disguises")] = 50,
    prompt: Annotated[
        str, typer.Option(help="caption: that of the image; none: as for pictures whose prompt is unknown")
    ] = "none",
    folder: Annotated[Path | None, typer.Option("--folder", help="folder that the index was built from")] = None,
    model: Model = None,
    device: TorchDevice = None,
    method: IndexMethod = None,
    setting: MethodSettings = None,
    likely: Likely = False,
    journal: FinishedTrials = STUDIES,
    work: Annotated[Path, typer.Option(help="folder whose cache/ keeps what methods reuse")] = WORK,
    as_json: AsJson = False,
    out: ReportFile = None,
) -> None:
    """Whether training images are found mirrored, turned, recoloured, framed, watermarked or grey; resumes."""
    from ..studies import disguised as room
    from ..studies.journal import Journal
    from ..studies.self_retrieval import pictures_of

    require_folder_of(out)
    by, wanted = method_from(method or method_of_index(index), setting), room.Disguised(images, prompt)
    attributor = load_attributor(index, None, work / "cache", model=model, device=device)
    pictures = pictures_of(attributor.index, folder)
    with progress_bar("query") as bar:
        trials = room.run(
            wanted, attributor, by, pictures, Journal(journal / "disguised.jsonl"), effort_of(likely), reporting_to(bar)
        )
    tell(room.as_report(wanted, trials), room.as_table, as_json, out)


def effort_of(likely: bool) -> Effort | None:
    from ..attribution.shortlist import Effort

    return Effort() if likely else None
