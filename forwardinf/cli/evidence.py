"""`forwardinf study evidence`: every study of one method that is not the default, as one command that resumes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import ASSETS
from ..errors import InvalidRequest
from .index import index_build
from .options import STUDIES, WORK
from .study import calibration, disguised, self_retrieval, study
from .suite import report
from .trained_studies import customisation, lds, leave_k_out, steadiness

if TYPE_CHECKING:
    from ..methods.steady import Steady
    from ..studies.estimate import Part
    from ..studies.ground_truth import GroundTruth

EMBEDDER = "artwork"  # of the index, as pictures without a prompt are asked about too
QUERIES, SEEDS, CASES = 20, 4, 12  # of leave-k-out, of steadiness, and reported cases of customisation


@study.command("evidence")
def evidence(
    method: Annotated[
        str, typer.Option("--method", help="a method that indexes are built for, other than the default")
    ] = "steady",
    reports: Annotated[
        Path | None,
        typer.Option(help="folder of reports, journals and finished scores; default: the method's, in those that ship"),
    ] = None,
    work: Annotated[Path, typer.Option(help="folder for indexes and what studies reuse")] = WORK,
    estimate: Annotated[bool, typer.Option("--estimate", help="say how long it takes here, and run nothing")] = False,
) -> None:
    """Build the shipped model's index for a method, and run every study of it that the default was run with; resumes.

    Answers about the shipped model weigh the likely images. Of models that were trained again, outcomes that are kept
    are used; only scores are measured.
    """
    by = _required(method)
    if estimate:
        typer.echo(_estimated(by))
        return
    kept = reports or STUDIES / method
    kept.mkdir(parents=True, exist_ok=True)
    for run in _runs(method, kept, work):
        run()
    report(kept)


def _required(method: str) -> Steady:
    """Raises InvalidRequest for a method that other indexes are not built for."""
    from ..attribution.planning import method_for
    from ..methods.steady import Steady

    by = method_for(method)
    if not isinstance(by, Steady):
        raise InvalidRequest(f"The evidence of {method} is what `study all` runs; this is for steady.")
    return by


def _runs(method: str, kept: Path, work: Path) -> list[Callable[[], None]]:
    """What is run, in the order in which it tells most; each does nothing that is done."""
    index = work / f"index-{method}"
    about: dict[str, Any] = {"index": index, "likely": True, "journal": kept, "work": work}
    lab: dict[str, Any] = {"work": work, "scores": kept / "scores"}
    return [
        partial(index_build, ASSETS / "emoji", index, method=method, embedder=EMBEDDER),
        partial(calibration, **about, out=kept / "calibration.json"),
        partial(disguised, **about, out=kept / "disguised.json"),
        partial(lds, method=method, **lab, out=kept / f"lds-{method}.json"),
        partial(steadiness, method=method, seeds=SEEDS, **lab, out=kept / "steadiness.json"),
        partial(customisation, part="reported", method=method, journal=kept, work=work,
                out=kept / f"customisation-{method}.json"),
        partial(leave_k_out, queries=QUERIES, method=[method, "random"], **lab, out=kept / "leave-k-out.json"),
        partial(self_retrieval, **about, out=kept / f"self-retrieval-{method}.json"),
    ]  # fmt: skip


def _estimated(by: Steady) -> str:
    """What each part takes, at the rates of the shipped and of the lab's model on this machine."""
    from ..attribution.build_null import QUERIES as NULLS
    from ..examples.catalog import Catalog
    from ..models.sd import load
    from ..studies.estimate import as_lines, forwards_per_second
    from ..studies.ground_truth import GroundTruth
    from ..types import ModelSpec
    from .trained_studies import LAB

    truth = GroundTruth.open(LAB, Catalog.load(ASSETS / "emoji"), ASSETS / "emoji-diffusion")
    shipped = load(ModelSpec(str(truth.shipped)))
    parts = _parts(by, truth, NULLS)
    models = {"shipped": shipped, "lab": truth.model("all")}
    return "\n".join(as_lines(parts, {name: forwards_per_second(model) for name, model in models.items()}))


def _parts(by: Steady, truth: GroundTruth, nulls: int) -> list[Part]:
    from ..attribution.shortlist import Effort
    from ..studies.calibration import GOAL_NULLS, GOAL_REPEATED
    from ..studies.customisation import NULL_PICTURES
    from ..studies.disguised import DISGUISES, Disguised
    from ..studies.estimate import TRAINING, Counts, Part
    from ..studies.lds import Lds
    from ..studies.self_retrieval import GOAL_QUERIES
    from ..studies.steadiness import Steadiness

    everything = [image for image in truth.artwork.images if image.split in ("train", "held_out")]
    of_lab = len(truth.images.images) + len(truth.unseen.images)
    shipped, lab, case = Counts(by, len(everything)), Counts(by, of_lab), Counts(by, of_lab)
    answer = shipped.answer(Effort())
    asked = len(Steadiness().chosen(truth))
    answers = {
        "calibration": GOAL_NULLS + GOAL_REPEATED,
        "copies in disguise": Disguised().images * len(DISGUISES),
        "self-retrieval": 2 * GOAL_QUERIES,
    }
    return [
        Part("index of the shipped model", 1, shipped.index(nulls, verdicts=True), "shipped"),
        *(Part(name, count, count * answer, "shipped") for name, count in answers.items()),
        Part("indexes of the lab", SEEDS, SEEDS * lab.index(nulls, verdicts=False), "lab"),
        Part("LDS, reported", len(Lds().chosen(truth)), len(Lds().chosen(truth)) * lab.complete, "lab"),
        Part("steadiness", asked * SEEDS, asked * SEEDS * lab.complete, "lab"),
        Part("leave-k-out, trainings", QUERIES, 0, "lab", QUERIES * TRAINING),
        Part("customisation, indexes and answers", 2 * CASES,
             CASES * case.index(NULL_PICTURES, verdicts=False) + 2 * CASES * case.complete, "shipped"),
    ]  # fmt: skip
