"""`forwardinf study`: put questions with a known answer to a method."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from ..methods import AttributionMethod

LAB = ASSETS / "lab"

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
    _tell(report, room.as_table, as_json, out)


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
    work: Annotated[Path, typer.Option(help="keeps finished trials in studies/")] = WORK,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file to write the JSON to as well")] = None,
) -> None:
    """Whether images stand out only where they should, and do where they should; resumes."""
    from ..studies import calibration as room
    from ..studies.journal import Journal

    require_folder_of(out)
    by = method_from(method, setting)
    attributor = load_attributor(index, tunable, work / "cache", model=model, device=device)
    journal = Journal(work / "studies" / "calibration.jsonl")
    with progress_bar("query") as bar:
        trials = room.run(room.Calibration(nulls, repeated), attributor, by, journal, reporting_to(bar))
    _tell(room.as_report(trials), room.as_table, as_json, out)


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
    from ..studies.lab_scores import attributor_of, scores_of

    require_folder_of(out)
    by = method_from(method, setting)
    truth = GroundTruth.open(folder, Catalog.load(artwork), shipped)
    asked = room.Lds(queries)
    attributor = attributor_of(truth, tunable, work / "lab", draws or BuildPlan.draws)
    with progress_bar("query") as bar:
        scores = scores_of(asked.chosen(truth), truth, attributor, by, work / "lab", reporting_to(bar))
    report = room.as_report(asked, truth, attributor, by, scores)
    _tell(report, room.as_table, as_json, out)


@study.command("leave-k-out")
def leave_k_out(
    queries: Annotated[int, typer.Option(min=1, max=100, help="of those that the lab drew")] = 8,
    k: Annotated[int, typer.Option("--k", help="images left out")] = 50,
    artwork: Annotated[Path, typer.Option(help="the shipped training set")] = ASSETS / "emoji",
    shipped: Annotated[Path, typer.Option("--model", help="the shipped model")] = ASSETS / "emoji-diffusion",
    folder: Annotated[Path, typer.Option("--lab", help="the ground truth, made by `study lab`")] = LAB,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="name, or name:setting=value,…; may be repeated; by default forward_inf, similarity and random. "
            "random, which the others are compared with, is always among them",
        ),
    ] = None,
    tunable: Annotated[str, typer.Option(help="weights a query moves")] = ModelSpec.tunable,
    draws: Annotated[int | None, typer.Option(min=1, help="of the sweep, by default an index's own default")] = None,
    work: Annotated[Path, typer.Option(help="keeps the lab's index and scores in lab/")] = WORK,
    journal: Annotated[Path | None, typer.Option(help="folder of finished trainings, by default the lab's")] = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file to write the JSON to as well")] = None,
) -> None:
    """How a picture changes when a method's first k images are left out and the lab is trained again; resumes."""
    from ..index.build import BuildPlan
    from ..index.catalog import Catalog
    from ..studies import leave_k_out as room
    from ..studies.ground_truth import GroundTruth
    from ..studies.journal import Journal
    from ..studies.lab_scores import attributor_of

    require_folder_of(out)
    methods = room.with_baseline([_method_of(text) for text in method or room.METHODS])
    truth = GroundTruth.open(folder, Catalog.load(artwork), shipped)
    asked = room.LeaveKOut(queries, k)
    asked.chosen(truth)  # refused before anything is built
    attributor = attributor_of(truth, tunable, work / "lab", draws or BuildPlan.draws)
    removals = {}
    for by in methods:
        with progress_bar("query") as bar:
            removals[room.label_of(by)] = room.removals_of(
                asked, truth, attributor, by, work / "lab", reporting_to(bar)
            )
    with progress_bar("training") as bar:
        outcomes = room.run(asked, truth, removals, Journal((journal or folder) / room.JOURNAL), reporting_to(bar))
    report = room.as_report(asked, truth, attributor, methods, outcomes)
    _tell(report, room.as_table, as_json, out)


def _method_of(text: str) -> AttributionMethod:
    """The method that `name` or `name:setting=value,setting=value` asks for."""
    name, _, settings = text.partition(":")
    return method_from(name, settings.split(",") if settings else None)


def _tell(report: dict[str, Any], as_table: Callable[[dict[str, Any]], str], as_json: bool, out: Path | None) -> None:
    """A study's report on stdout, as a table or as JSON, and in a file where one was named."""
    text = json.dumps(report, indent=1)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
    typer.echo(text if as_json else as_table(report))
