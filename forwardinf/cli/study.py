"""`forwardinf study`: put questions with a known answer to a method."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    STUDIES,
    WORK,
    AsJson,
    Direction,
    FinishedTrials,
    IndexFolder,
    LossBudget,
    Method,
    MethodSettings,
    Model,
    ReportFile,
    Score,
    Steps,
    TorchDevice,
    Tunable,
    load_attributor,
    method_from,
    progress_bar,
    reporting_to,
    require_folder_of,
    tell,
)

study = typer.Typer(no_args_is_help=True, help="Put questions with a known answer to a method; every study resumes.")


@study.command("self-retrieval")
def self_retrieval(
    index: IndexFolder = None,
    queries: Annotated[int, typer.Option(min=1, help="random training images to ask for")] = 200,
    candidates: Annotated[int, typer.Option(min=0, help="images ranked for each; 0 for all training images")] = 0,
    variants: Annotated[
        str, typer.Option(help="clean, jpeg, resized, cropped; degraded: the last three in turn")
    ] = "clean,degraded",
    prompt: Annotated[
        str, typer.Option(help="caption: the image's own; none: as for pictures whose prompt is not known")
    ] = "caption",
    images: Annotated[Path | None, typer.Option(help="folder the index was built from")] = None,
    model: Model = None,
    device: TorchDevice = None,
    method: Method = "forward_inf",
    tunable: Tunable = None,
    steps: Steps = None,
    direction: Direction = None,
    loss_budget: LossBudget = None,
    score: Score = None,
    setting: MethodSettings = None,
    seed: Annotated[int, typer.Option(help="of the choice of queries and candidates")] = 0,
    journal: FinishedTrials = STUDIES,
    work: Annotated[Path, typer.Option(help="keeps what methods reuse in cache/")] = WORK,
    as_json: AsJson = False,
    out: ReportFile = None,
) -> None:
    """At which rank training images come back when they, or degraded copies, are the query; resumes."""
    from ..studies import self_retrieval as room
    from ..studies.journal import Journal

    require_folder_of(out)
    names = tuple(dict.fromkeys(name.strip() for name in variants.split(",")))
    asked = room.SelfRetrieval(queries, candidates, names, prompt, seed)
    by = method_from(method, setting, steps=steps, direction=direction, loss_budget=loss_budget, score=score)
    attributor = load_attributor(index, tunable, work / "cache", model=model, device=device)
    pictures = room.pictures_of(attributor.index, images)
    finished = Journal(journal / "self_retrieval.jsonl")
    with progress_bar("trial") as bar:
        trials = room.run(asked, attributor, by, pictures, finished, reporting_to(bar))
    report = room.as_report(asked, asked.settings(attributor, by), trials)
    tell(report, room.as_table, as_json, out)


@study.command("calibration")
def calibration(
    index: IndexFolder = None,
    nulls: Annotated[int, typer.Option(min=1, help="pictures that owe nothing to the training set")] = 400,
    repeated: Annotated[int, typer.Option(min=0, help="repeated training images, drawn anew")] = 40,
    model: Model = None,
    device: TorchDevice = None,
    method: Method = "forward_inf",
    tunable: Tunable = None,
    setting: MethodSettings = None,
    journal: FinishedTrials = STUDIES,
    work: Annotated[Path, typer.Option(help="keeps what methods reuse in cache/")] = WORK,
    as_json: AsJson = False,
    out: ReportFile = None,
) -> None:
    """Whether images stand out only where they should, and do where they should; resumes."""
    from ..studies import calibration as room
    from ..studies.journal import Journal

    require_folder_of(out)
    by = method_from(method, setting)
    attributor = load_attributor(index, tunable, work / "cache", model=model, device=device)
    finished = Journal(journal / "calibration.jsonl")
    with progress_bar("query") as bar:
        trials = room.run(room.Calibration(nulls, repeated), attributor, by, finished, reporting_to(bar))
    tell(room.as_report(trials), room.as_table, as_json, out)
