"""Does a method find the pictures that a model was fine-tuned on, from what that model generates?

    forwardinf study customisation --method forward_inf --part choosing

A small version of Attribution by Customisation (Wang et al., ICCV 2023, arXiv 2306.09345). Each fine-tuned model gets
an index of its own, with base losses and Fisher over 1,000 training images and its exemplars. For a picture that the
model generates, the exemplars are the right answer, each as much as the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..attribution.attributor import Attributor
from ..attribution.build_null import with_null
from ..errors import InvalidRequest
from ..examples.catalog import Catalog
from ..index.build import BuildPlan
from ..index.null_file import SCHEMA
from ..methods.protocol import AttributionMethod, settings_of
from .custom_cases import CustomCases
from .custom_plan import KINDS, PARTS, CustomCase
from .intervals import mean_interval
from .journal import Journal, Trial
from .lab_scores import indexed

DEPTHS = (1, 5, 10)
CURVE = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500, 1000)  # depths of the recall curve
NULL_PICTURES = 9  # few, as every case needs a null distribution for its own model


@dataclass(frozen=True)
class Customisation:
    """Which pictures are queried; raises InvalidRequest for what does not exist. More cases resume from fewer."""

    part: str = "all"  # or choosing, reported
    cases: int = 24  # of both parts together
    pictures: int = 2  # of each case
    draws: int = BuildPlan.draws
    null_pictures: int = NULL_PICTURES  # 0: scores are not compared with a null distribution

    def __post_init__(self) -> None:
        if self.part not in ("all", *PARTS):
            raise InvalidRequest(f"There is no part “{self.part}”; the parts are: {', '.join(PARTS)}, all.")
        if self.cases < 1 or self.pictures < 1 or self.draws < 1:
            raise InvalidRequest("A study needs at least one case, one picture of each, and one draw.")

    def chosen(self, cases: CustomCases) -> list[CustomCase]:
        """The cases whose pictures are queried. Raises InvalidRequest where there are fewer."""
        plan = cases.plan
        if self.cases > len(plan.cases) or self.pictures > plan.pictures:
            raise InvalidRequest(f"There are only {len(plan.cases)} cases with {plan.pictures} pictures each.")
        chosen = [case for case in plan.cases[: self.cases] if self.part in ("all", case.part)]
        if not chosen:
            raise InvalidRequest(
                f"None of the first {self.cases} cases is of the part “{self.part}”; ask for more cases."
            )
        return chosen

    def settings(self, cases: CustomCases, tunable: str, method: AttributionMethod) -> dict[str, Any]:
        """Everything that a trial's ranks depend on, apart from its case and picture."""
        return {
            "method": settings_of(method),
            "tunable": tunable,
            "draws": self.draws,
            "reference_queries": self.null_pictures,
            **({"reference_schema": SCHEMA} if self.null_pictures else {}),
            "candidates": len(cases.plan.candidates),
            "plan": cases.fingerprint,
            "version": __version__,
        }


def run(
    study: Customisation,
    cases: CustomCases,
    tunable: str,
    method: AttributionMethod,
    journal: Journal,
    work: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Trial]:
    """Every trial of a study; those in the journal are taken from there, the others are run and added to it.

    A trial holds the exemplars' ranks among all candidates. Where no step is possible on a picture, they rank last, and
    `failed` says why.
    """
    settings = study.settings(cases, tunable, method)
    finished = {(t["made"], t["picture"]): t for t in journal.trials_with(settings)}
    chosen = study.chosen(cases)
    names = {case: cases.fingerprint_of(case) for case in chosen}
    wanted = [(case, number) for case in chosen for number in range(study.pictures)]
    attributor: tuple[CustomCase, Attributor] | None = None
    for done, (case, number) in enumerate(wanted):
        on_progress(done, len(wanted))
        if (names[case], number) in finished:
            continue
        if attributor is None or attributor[0] != case:
            attributor = case, attributor_of(cases, case, tunable, work, study.draws, method, study.null_pictures)
        outcome = _outcome(cases, case, number, attributor[1], method)
        trial = {"case": case.number, "made": names[case], "picture": number, **outcome, "settings": settings}
        finished[names[case], number] = trial
        journal.append(trial)
    on_progress(len(wanted), len(wanted))
    return [finished[names[case], number] for case, number in wanted]


def attributor_of(
    cases: CustomCases,
    case: CustomCase,
    tunable: str,
    work: Path,
    draws: int,
    method: AttributionMethod,
    null_pictures: int = 0,
) -> Attributor:
    """A case's model with the index of its candidates, its exemplars and some pictures that it has never seen.

    The null distribution comes from `null_pictures` of the latter. Index and null are built in `work` unless they are
    there.
    """
    pictures = Catalog(cases.artwork.folder, (*cases.images(case).images, *cases.unseen.images))
    attributor = indexed(cases.model(case, tunable), pictures, work, draws, method)
    return with_null(attributor, method, cases.artwork, null_pictures)


def recall(ranks: Sequence[int], depth: int) -> float:
    """The share of the exemplars whose rank is at most `depth`."""
    return sum(rank <= depth for rank in ranks) / len(ranks)


def best_recall(exemplars: int, depth: int) -> float:
    """The highest possible `recall` with so many exemplars."""
    return min(depth, exemplars) / exemplars


def average_precision(ranks: Sequence[int]) -> float:
    """Mean over the exemplars of the precision at the rank of each; 1 where they rank before all other images."""
    return sum(place / rank for place, rank in enumerate(sorted(ranks), 1)) / len(ranks)


def as_report(
    study: Customisation, cases: CustomCases, tunable: str, method: AttributionMethod, trials: list[Trial]
) -> dict[str, Any]:
    """Recall and mean average precision with intervals over cases, by part and kind, in JSON's types."""
    chosen = study.chosen(cases)
    by_case = {case: [t for t in trials if t["case"] == case.number] for case in chosen}
    rows = []
    for part in PARTS:
        for kind in (*KINDS, "all"):
            group = [case for case in chosen if case.part == part and kind in (case.kind, "all")]
            if group:
                rows.append({"part": part, "kind": kind, **_summary([by_case[case] for case in group])})
    return {
        "study": "customisation",
        "settings": study.settings(cases, tunable, method) | {"cases": study.cases, "pictures": study.pictures},
        "groups": rows,
    }


def _summary(cases: list[list[Trial]]) -> dict[str, Any]:
    """Figures over cases, for each of which its pictures are averaged."""

    def over_cases(figure: Callable[[Sequence[int]], float]) -> dict[str, Any]:
        values = np.array([np.mean([figure(trial["ranks"]) for trial in trials]) for trials in cases])
        if len(values) < 2:
            return {"mean": float(values.mean()), "interval": None}
        low, high = mean_interval(values)
        return {"mean": float(values.mean()), "interval": (max(0.0, low), min(1.0, high))}

    best = {k: float(np.mean([best_recall(len(trials[0]["ranks"]), k) for trials in cases])) for k in DEPTHS}
    return {
        "cases": len(cases),
        "pictures": sum(map(len, cases)),
        "failed": sum(trial["failed"] is not None for trials in cases for trial in trials),
        "recall": {str(k): over_cases(partial(recall, depth=k)) | {"best_possible": best[k]} for k in DEPTHS},
        "map": over_cases(average_precision),
        "curve": {str(k): over_cases(partial(recall, depth=k))["mean"] for k in CURVE},
    }


def as_table(report: dict[str, Any]) -> str:
    """One line for each part and kind, followed by the settings."""
    return "\n".join([*_table_lines(report), "", *_setting_lines(report["settings"])])


def _table_lines(report: dict[str, Any]) -> Iterator[str]:
    columns = "  ".join(f"{f'recall@{k}':20}" for k in DEPTHS)
    yield f"{'part':9} {'exemplars':10} {'cases':>5}  {columns}  {'mAP':20}"
    for row in report["groups"]:
        figures = [_shown(row["recall"][str(k)]) for k in DEPTHS] + [_shown(row["map"])]
        failed = f"  no step possible on {row['failed']}" if row["failed"] else ""
        cells = "  ".join(f"{figure:20}" for figure in figures)
        yield f"{row['part']:9} {row['kind']:10} {row['cases']:>5}  {cells}{failed}".rstrip()
        if row["kind"] == "all":
            best = "  ".join(f"{row['recall'][str(k)]['best_possible']:<20.3f}" for k in DEPTHS)
            yield f"{'':9} {'at best':10} {'':>5}  {best}  1.000"


def _setting_lines(settings: dict[str, Any]) -> Iterator[str]:
    options = ", ".join(f"{key} {value}" for key, value in settings["method"].items() if key != "name")
    yield f"Method: {settings['method']['name']} ({options}). Weights moved: {settings['tunable']}."
    yield (
        f"{settings['pictures']} pictures of each case, ranked among {settings['candidates']:,} training images "
        "and the case's exemplars."
    )
    yield "Brackets: 95 % intervals over cases. Recall@1 stays below 1 where a case has several exemplars."


def _shown(figure: dict[str, Any]) -> str:
    if figure["interval"] is None:
        return f"{figure['mean']:.3f}"
    low, high = figure["interval"]
    return f"{figure['mean']:.3f} [{low:.3f}, {high:.3f}]"


def _outcome(
    cases: CustomCases, case: CustomCase, number: int, attributor: Attributor, method: AttributionMethod
) -> dict[str, Any]:
    try:
        scores = attributor.attribute(cases.picture(case, number), case.caption, method)
    except InvalidRequest as refusal:
        return {"ranks": [len(attributor.index.trained)] * len(case.exemplars), "failed": str(refusal)}
    return {"ranks": [scores.rank_of(exemplar.id) for exemplar in case.exemplars], "failed": None}
