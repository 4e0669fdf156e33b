"""`forwardinf study lab | lds | steadiness | leave-k-out | cases | customisation`: studies on models made for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import ASSETS, load_settings
from ..types import ModelSpec
from .options import (
    STUDIES,
    WORK,
    AsJson,
    FinishedTrials,
    Method,
    MethodSettings,
    NullPictures,
    ReportFile,
    TorchDevice,
    method_from,
    null_pictures_for,
    progress_bar,
    reporting_to,
    require_folder_of,
    tell,
)
from .study import study

if TYPE_CHECKING:
    from ..attribution.attributor import Attributor
    from ..methods.protocol import AttributionMethod
    from ..studies.ground_truth import GroundTruth

Artwork = Annotated[Path, typer.Option(help="folder of the shipped training set")]
Shipped = Annotated[Path, typer.Option("--model", help="folder of the shipped model")]
LabFolder = Annotated[Path, typer.Option("--lab", help="folder of the lab, made by `study lab`")]
Moved = Annotated[str, typer.Option(help="weights that a query moves")]
SweepDraws = Annotated[int | None, typer.Option(min=1, help="draws per image; default: that of `index build`")]
LAB = ASSETS / "lab"
CASES = ASSETS / "customisation"


@study.command("lab")
def lab(
    until: Annotated[int, typer.Option(min=0, max=64, help="number of subsets to train on")] = 64,
    artwork: Artwork = ASSETS / "emoji",
    shipped: Shipped = ASSETS / "emoji-diffusion",
    folder: Annotated[Path, typer.Option("--lab", help="folder of the lab to make or to continue")] = LAB,
    work: Annotated[Path, typer.Option(help="folder whose lab/ keeps checkpoints of the initial weights")] = WORK,
) -> None:
    """Make the lab, the ground truth of `study lds`: train a small model on random half subsets; resumes."""
    from ..examples.catalog import Catalog
    from ..studies import ground_truth
    from ..training.lab import Recipe

    pictures = Catalog.load(artwork)
    plan = ground_truth.LabPlan.of(pictures, Recipe())
    with progress_bar("subset") as bar:
        truth = ground_truth.make(folder, pictures, shipped, plan, work / "lab", until, reporting_to(bar))
    typer.echo(f"{folder.name}: {truth.finished.sum()} of {plan.subsets} subsets trained on")


def _lab_attributor(
    truth: GroundTruth,
    tunable: str,
    work: Path,
    method: AttributionMethod,
    draws: int | None,
    null_pictures: int | None,
    seed: int = 0,
) -> Attributor:
    """The lab's model and index, with a null distribution from `null_pictures` or the usual number."""
    from ..attribution.build_null import QUERIES, with_null
    from ..index.build import BuildPlan
    from ..studies.lab_scores import attributor_of

    attributor = attributor_of(truth, tunable, work / "lab", method, draws or BuildPlan.draws, seed)
    with progress_bar("null picture") as bar:
        count = null_pictures_for(method, null_pictures, QUERIES)
        return with_null(attributor, method, truth.artwork, count, reporting_to(bar))


@study.command("lds")
def lds(
    queries: Annotated[
        int, typer.Option(min=1, max=100, help="number of each origin: drawn by the lab, and held out")
    ] = 100,
    part: Annotated[
        str, typer.Option(help="of these: reported, choosing (on which settings were chosen), all")
    ] = "reported",
    artwork: Artwork = ASSETS / "emoji",
    shipped: Shipped = ASSETS / "emoji-diffusion",
    folder: LabFolder = LAB,
    device: TorchDevice = None,
    method: Method = "forward_inf",
    tunable: Moved = ModelSpec.tunable,
    draws: SweepDraws = None,
    setting: MethodSettings = None,
    nulls: NullPictures = None,
    work: Annotated[Path, typer.Option(help="folder whose lab/ keeps indexes and scores")] = WORK,
    as_json: AsJson = False,
    out: ReportFile = None,
) -> None:
    """Whether summed scores predict what training on a subset does to a query's loss (LDS); resumes."""
    from ..examples.catalog import Catalog
    from ..studies import lds as room
    from ..studies.ground_truth import GroundTruth
    from ..studies.lab_scores import scores_of

    require_folder_of(out)
    by = method_from(method, setting)
    truth = GroundTruth.open(folder, Catalog.load(artwork), shipped, load_settings(device=device).device)
    wanted = room.Lds(queries, part)
    attributor = _lab_attributor(truth, tunable, work, by, draws, nulls)
    with progress_bar("query") as bar:
        scores = scores_of(wanted.chosen(truth), truth, attributor, by, work / "lab", reporting_to(bar))
    report = room.as_report(wanted, truth, attributor, by, scores)
    tell(report, room.as_table, as_json, out)


@study.command("steadiness")
def steadiness(
    queries: Annotated[
        int, typer.Option(min=1, max=100, help="number of each origin: drawn by the lab, and held out")
    ] = 6,
    seeds: Annotated[int, typer.Option(min=2, help="number of draw seeds, with an index and a null each")] = 4,
    part: Annotated[str, typer.Option(help="of the queries: reported, choosing, all")] = "reported",
    artwork: Artwork = ASSETS / "emoji",
    shipped: Shipped = ASSETS / "emoji-diffusion",
    folder: LabFolder = LAB,
    device: TorchDevice = None,
    method: Method = "forward_inf",
    setting: MethodSettings = None,
    nulls: NullPictures = None,
    work: Annotated[Path, typer.Option(help="folder whose lab/ keeps the indexes")] = WORK,
    as_json: AsJson = False,
    out: ReportFile = None,
) -> None:
    """How far scores and ranks change with other noise, and whether an answer claims as much."""
    from ..examples.catalog import Catalog
    from ..studies import steadiness as room
    from ..studies.ground_truth import GroundTruth

    require_folder_of(out)
    by, wanted = method_from(method, setting), room.Steadiness(queries, seeds, part)
    truth = GroundTruth.open(folder, Catalog.load(artwork), shipped, load_settings(device=device).device)
    wanted.chosen(truth)  # refused before anything is built
    attributors = [_lab_attributor(truth, ModelSpec.tunable, work, by, None, nulls, seed) for seed in range(seeds)]
    with progress_bar("query") as bar:
        found = room.run(wanted, truth, attributors, by, reporting_to(bar))
    tell(room.as_report(wanted, attributors[0], by, found), room.as_table, as_json, out)


@study.command("leave-k-out")
def leave_k_out(
    queries: Annotated[int, typer.Option(min=1, max=100, help="number of queries, drawn by the lab")] = 8,
    k: Annotated[int, typer.Option("--k", help="number of images to remove")] = 50,
    part: Annotated[
        str, typer.Option(help="of the queries: reported, choosing (on which settings were chosen), all")
    ] = "reported",
    artwork: Artwork = ASSETS / "emoji",
    shipped: Shipped = ASSETS / "emoji-diffusion",
    folder: LabFolder = LAB,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="name, or name:setting=value,…; may be repeated; default: forward_inf, similarity and random. "
            "random, the baseline, is always included",
        ),
    ] = None,
    tunable: Moved = ModelSpec.tunable,
    draws: SweepDraws = None,
    nulls: NullPictures = None,
    work: Annotated[Path, typer.Option(help="folder whose lab/ keeps indexes and scores")] = WORK,
    journal: Annotated[Path | None, typer.Option(help="folder of finished trainings; default: the lab's")] = None,
    as_json: AsJson = False,
    out: ReportFile = None,
) -> None:
    """How a picture changes when a method's first k images are removed and the lab is trained again; resumes."""
    from ..examples.catalog import Catalog
    from ..studies import leave_k_out as room
    from ..studies.ground_truth import GroundTruth
    from ..studies.journal import Journal

    require_folder_of(out)
    methods = room.with_baseline([_method_of(text) for text in method or room.METHODS])
    truth = GroundTruth.open(folder, Catalog.load(artwork), shipped)
    wanted = room.LeaveKOut(queries, k, part)
    wanted.chosen(truth)  # refused before anything is built
    removals, runs = {}, []
    for by in methods:
        attributor = _lab_attributor(truth, tunable, work, by, draws, nulls)
        with progress_bar("query") as bar:
            removals[room.label_of(by)] = room.removals_of(
                wanted, truth, attributor, by, work / "lab", reporting_to(bar)
            )
        runs.append((attributor, by))
    with progress_bar("training") as bar:
        outcomes = room.run(wanted, truth, removals, Journal((journal or folder) / room.JOURNAL), reporting_to(bar))
    report = room.as_report(wanted, truth, runs, outcomes)
    tell(report, room.as_table, as_json, out)


def _method_of(text: str) -> AttributionMethod:
    """The method given as `name` or `name:setting=value,setting=value`."""
    name, _, settings = text.partition(":")
    return method_from(name, settings.split(",") if settings else None)


@study.command("cases")
def cases(
    until: Annotated[int, typer.Option(min=1, max=60, help="number of cases to make")] = 24,
    artwork: Artwork = ASSETS / "emoji",
    shipped: Shipped = ASSETS / "emoji-diffusion",
    folder: Annotated[Path, typer.Option("--folder", help="folder of the cases to make or to continue")] = CASES,
) -> None:
    """Make the cases of `study customisation`: fine-tune the model on a few pictures and let it draw; resumes."""
    from ..examples.catalog import Catalog
    from ..studies import custom_cases
    from ..studies.custom_plan import CustomPlan
    from ..training.customise import CustomRecipe

    pictures = Catalog.load(artwork)
    plan = CustomPlan.of(pictures, CustomRecipe())
    with progress_bar("case") as bar:
        made = custom_cases.make(folder, pictures, shipped, plan, until, reporting_to(bar))
    typer.echo(f"{folder.name}: {sum(map(made.made, plan.cases))} of {len(plan.cases)} cases made")


@study.command("customisation")
def customisation(
    part: Annotated[str, typer.Option(help="choosing (on which settings were chosen), reported, all")] = "all",
    count: Annotated[int, typer.Option("--cases", min=1, max=60, help="number of cases in both parts together")] = 24,
    pictures: Annotated[int, typer.Option(min=1, help="number of pictures of each case")] = 2,
    artwork: Artwork = ASSETS / "emoji",
    shipped: Shipped = ASSETS / "emoji-diffusion",
    folder: Annotated[Path, typer.Option("--folder", help="folder of the cases, made by `study cases`")] = CASES,
    device: TorchDevice = None,
    method: Method = "forward_inf",
    tunable: Moved = ModelSpec.tunable,
    draws: SweepDraws = None,
    setting: MethodSettings = None,
    nulls: NullPictures = None,
    journal: FinishedTrials = STUDIES,
    work: Annotated[Path, typer.Option(help="folder whose customisation/ keeps the cases' indexes")] = WORK,
    as_json: AsJson = False,
    out: ReportFile = None,
) -> None:
    """Whether the pictures that a model was fine-tuned on are found from what it drew (AbC); resumes."""
    from ..examples.catalog import Catalog
    from ..index.build import BuildPlan
    from ..studies import customisation as room
    from ..studies.custom_cases import CustomCases
    from ..studies.journal import Journal

    require_folder_of(out)
    by = method_from(method, setting)
    null_pictures = null_pictures_for(by, nulls, room.NULL_PICTURES)
    wanted = room.Customisation(part, count, pictures, draws or BuildPlan.draws, null_pictures)
    made = CustomCases.open(folder, Catalog.load(artwork), shipped, load_settings(device=device).device)
    finished = Journal(journal / "customisation.jsonl")
    with progress_bar("picture") as bar:
        trials = room.run(wanted, made, tunable, by, finished, work / "customisation", reporting_to(bar))
    report = room.as_report(wanted, made, tunable, by, trials)
    tell(report, room.as_table, as_json, out)
