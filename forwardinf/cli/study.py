"""`forwardinf study self-retrieval | calibration`: the studies that use the shipped index or another one."""

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

study = typer.Typer(
    no_args_is_help=True, help="How well a method answers questions whose true answer is known. Every study resumes."
)


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
    method: Method = "forward_inf",
    tunable: Tunable = None,
    steps: Steps = None,
    direction: Direction = None,
    loss_budget: LossBudget = None,
    score: Score = None,
    setting: MethodSettings = None,
    seed: Annotated[int, typer.Option(help="seed of the choice of queries and candidates")] = 0,
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
    wanted = room.SelfRetrieval(queries, candidates, names, prompt, seed)
    by = method_from(method, setting, steps=steps, direction=direction, loss_budget=loss_budget, score=score)
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
    method: Method = "forward_inf",
    tunable: Tunable = None,
    setting: MethodSettings = None,
    journal: FinishedTrials = STUDIES,
    work: Annotated[Path, typer.Option(help="folder whose cache/ keeps what methods reuse")] = WORK,
    as_json: AsJson = False,
    out: ReportFile = None,
) -> None:
    """How often an image stands out where none should, and where one must; resumes."""
    from ..studies import calibration as room
    from ..studies.journal import Journal

    require_folder_of(out)
    by = method_from(method, setting)
    attributor = load_attributor(index, tunable, work / "cache", model=model, device=device)
    finished = Journal(journal / "calibration.jsonl")
    with progress_bar("query") as bar:
        trials = room.run(room.Calibration(nulls, repeated), attributor, by, finished, reporting_to(bar))
    tell(room.as_report(trials), room.as_table, as_json, out)
