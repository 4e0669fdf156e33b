"""`forwardinf study`: put questions with a known answer to a method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..config import ASSETS
from ..types import ModelSpec
from .options import (
    WORK,
    AsJson,
    Direction,
    IndexFolder,
    LossBudget,
    Method,
    MethodSettings,
    Model,
    Score,
    Steps,
    TorchDevice,
    Tunable,
    load_attributor,
    method_from,
    progress_bar,
    reporting_to,
    require_folder_of,
)

LAB = ASSETS / "lab"
CASES = ASSETS / "customisation"

study = typer.Typer(no_args_is_help=True, help="Put questions with a known answer to a method; every study resumes.")


@study.command("self-retrieval")
def self_retrieval(
    index: IndexFolder = None,
    queries: Annotated[int, typer.Option(min=1, help="random training images to ask for")] = 200,
    candidates: Annotated[int, typer.Option(min=0, help="images ranked for each; 0 for all training images")] = 0,
    variants: Annotated[str, typer.Option(help="what the copies went through")] = "clean,jpeg,resized,cropped",
    prompt: Annotated[str, typer.Option(help="caption: the image's own; none")] = "caption",
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
    work: Annotated[Path, typer.Option(help="keeps finished trials in studies/, what methods reuse in cache/")] = WORK,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file to write the JSON to as well")] = None,
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
    journal = Journal(work / "studies" / "self_retrieval.jsonl")
    with progress_bar("trial") as bar:
        trials = room.run(asked, attributor, by, pictures, journal, reporting_to(bar))
    report = room.as_report(asked, asked.settings(attributor, by), trials)
    if out:
        out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(report, indent=1) if as_json else room.as_table(report))


@study.command("lab")
def lab(
    until: Annotated[int, typer.Option(min=0, max=64, help="train on the first so many subsets")] = 64,
    artwork: Annotated[Path, typer.Option(help="the shipped training set")] = ASSETS / "emoji",
    shipped: Annotated[Path, typer.Option("--model", help="the shipped model")] = ASSETS / "emoji-diffusion",
    folder: Annotated[Path, typer.Option("--lab", help="the ground truth to make or to go on with")] = LAB,
    work: Annotated[Path, typer.Option(help="keeps the start's checkpoints in lab/")] = WORK,
) -> None:
    """Make the ground truth of `study lds`: train a small model on random half subsets; resumes."""
    from ..index.catalog import Catalog
    from ..studies import ground_truth
    from ..training.lab import Recipe

    pictures = Catalog.load(artwork)
    plan = ground_truth.LabPlan.of(pictures, Recipe())
    with progress_bar("subset") as bar:
        truth = ground_truth.make(folder, pictures, shipped, plan, work / "lab", until, reporting_to(bar))
    typer.echo(f"{folder.name}: {truth.finished.sum()} of {plan.subsets} subsets trained on")


@study.command("lds")
def lds(
    queries: Annotated[int, typer.Option(min=1, max=100, help="of each origin: drawn by the lab, and held out")] = 100,
    artwork: Annotated[Path, typer.Option(help="the shipped training set")] = ASSETS / "emoji",
    shipped: Annotated[Path, typer.Option("--model", help="the shipped model")] = ASSETS / "emoji-diffusion",
    folder: Annotated[Path, typer.Option("--lab", help="the ground truth, made by `study lab`")] = LAB,
    method: Method = "forward_inf",
    tunable: Annotated[str, typer.Option(help="weights a query moves")] = ModelSpec.tunable,
    draws: Annotated[int | None, typer.Option(min=1, help="of the sweep, by default an index's own default")] = None,
    setting: MethodSettings = None,
    work: Annotated[Path, typer.Option(help="keeps the lab's index and scores in lab/")] = WORK,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file to write the JSON to as well")] = None,
) -> None:
    """Whether scores add up to what training on the images did to a query's loss (LDS); resumes."""
    from ..index.build import BuildPlan
    from ..index.catalog import Catalog
    from ..studies import lds as room
    from ..studies.ground_truth import GroundTruth

    require_folder_of(out)
    by = method_from(method, setting)
    truth = GroundTruth.open(folder, Catalog.load(artwork), shipped)
    asked = room.Lds(queries)
    attributor = room.attributor_of(truth, tunable, work / "lab", draws or BuildPlan.draws)
    with progress_bar("query") as bar:
        scores = room.scores_of(asked, truth, attributor, by, work / "lab", reporting_to(bar))
    report = room.as_report(asked, truth, attributor, by, scores)
    if out:
        out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(report, indent=1) if as_json else room.as_table(report))


@study.command("cases")
def cases(
    until: Annotated[int, typer.Option(min=1, max=60, help="make the first so many")] = 24,
    artwork: Annotated[Path, typer.Option(help="the shipped training set")] = ASSETS / "emoji",
    shipped: Annotated[Path, typer.Option("--model", help="the shipped model")] = ASSETS / "emoji-diffusion",
    folder: Annotated[Path, typer.Option("--folder", help="the cases to make or to go on with")] = CASES,
) -> None:
    """Make the cases of `study customisation`: teach the model a few pictures, and let it draw; resumes."""
    from ..index.catalog import Catalog
    from ..studies import custom_cases
    from ..training.customise import CustomRecipe

    pictures = Catalog.load(artwork)
    plan = custom_cases.CustomPlan.of(pictures, CustomRecipe())
    with progress_bar("case") as bar:
        made = custom_cases.make(folder, pictures, shipped, plan, until, reporting_to(bar))
    typer.echo(f"{folder.name}: {sum(map(made.made, plan.cases))} of {len(plan.cases)} cases made")


@study.command("customisation")
def customisation(
    part: Annotated[str, typer.Option(help="choosing: for choosing settings; reported; all")] = "all",
    count: Annotated[int, typer.Option("--cases", min=1, max=60, help="of both parts together")] = 24,
    pictures: Annotated[int, typer.Option(min=1, help="drawn by the model of each case")] = 2,
    artwork: Annotated[Path, typer.Option(help="the shipped training set")] = ASSETS / "emoji",
    shipped: Annotated[Path, typer.Option("--model", help="the shipped model")] = ASSETS / "emoji-diffusion",
    folder: Annotated[Path, typer.Option("--folder", help="made by `study cases`")] = CASES,
    method: Method = "forward_inf",
    tunable: Annotated[str, typer.Option(help="weights a query moves")] = ModelSpec.tunable,
    draws: Annotated[int | None, typer.Option(min=1, help="of the sweep, by default an index's own default")] = None,
    setting: MethodSettings = None,
    work: Annotated[Path, typer.Option(help="keeps finished trials in studies/, indexes in customisation/")] = WORK,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file to write the JSON to as well")] = None,
) -> None:
    """Whether the pictures that a model was taught are found from what it drew (AbC); resumes."""
    from ..index.build import BuildPlan
    from ..index.catalog import Catalog
    from ..studies import customisation as room
    from ..studies.custom_cases import CustomCases
    from ..studies.journal import Journal

    require_folder_of(out)
    by = method_from(method, setting)
    asked = room.Customisation(part, count, pictures, draws or BuildPlan.draws)
    made = CustomCases.open(folder, Catalog.load(artwork), shipped)
    journal = Journal(work / "studies" / "customisation.jsonl")
    with progress_bar("picture") as bar:
        trials = room.run(asked, made, tunable, by, journal, work / "customisation", reporting_to(bar))
    report = room.as_report(asked, made, tunable, by, trials)
    if out:
        out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(report, indent=1) if as_json else room.as_table(report))
