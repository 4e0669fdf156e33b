"""Leave-k-out: how much does a picture change when the images that a method ranks first are removed from training?

    forwardinf study leave-k-out --k 50 --method forward_inf --method tracin:normalised=true

The test of AbU (arXiv 2406.09408) and of MUCS (arXiv 2605.17938). Each query is a picture that the lab's full model
generated. The k images that a method ranks first are removed, the lab's model is trained again on the rest, and the
query's denoising loss and the picture generated from the same prompt and seed are compared with the original ones. What
counts is how much larger the change is than after removing as many random images: with fewer images training is
shorter, as each is seen equally often, and training is noisy by itself. The row “nothing” shows that noise alone; all
its queries share one training with another seed, so its interval holds for that training only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.attributor import Attributor
from ..errors import InvalidRequest
from ..methods.protocol import AttributionMethod, settings_of
from ..methods.registry import load_method
from .ground_truth import GroundTruth, require_part
from .intervals import mean_interval
from .journal import Journal
from .lab_scores import scores_of
from .retraining import SEED, Outcome, Removal, Retraining
from .settings import changed, settings_on

METHODS = ("forward_inf", "similarity", "random")
BASELINE = "random"
JOURNAL = "leave_k_out.jsonl"
MEASURES = {
    "loss": "rise of the query's denoising loss",
    "pixels": "mean squared error of the picture generated again",
    "features": "1 − cosine of the picture generated again",
}


@dataclass(frozen=True)
class LeaveKOut:
    """The first `queries` of a part of those that the lab generated, so that a larger study resumes a smaller one.

    The defaults of forward_inf were chosen on the choosing part, as for LDS.
    """

    queries: int = 8
    k: int = 50
    part: str = "reported"  # or choosing, all

    def __post_init__(self) -> None:
        require_part(self.part)

    def chosen(self, truth: GroundTruth) -> list[int]:
        """Numbers of the queries; raises InvalidRequest where the lab has none, or not more than k images."""
        images = len(truth.plan.images)
        if not 1 <= self.k < images:
            raise InvalidRequest(
                f"{self.k} of {images} images cannot be removed: at least one must go and one must stay. "
                f"Choose 1 to {images - 1}."
            )
        chosen = truth.plan.numbers(drawn=True, part=self.part)[: self.queries]
        if not chosen:
            raise InvalidRequest(
                f"Leave-k-out needs queries that the lab's model generated; the part “{self.part}” has none."
            )
        return chosen


def with_baseline(methods: Sequence[AttributionMethod]) -> list[AttributionMethod]:
    """The methods without duplicates, with the baseline among them."""
    different = list({label_of(method): method for method in methods}.values())
    named = [settings_of(method)["name"] for method in different]
    return different if BASELINE in named else [*different, load_method(BASELINE)]


def label_of(method: AttributionMethod) -> str:
    """The method's name and its settings other than the defaults, as `--method` takes them."""
    settings = settings_of(method)
    unusual = ",".join(f"{key}={value}" for key, value in changed(settings).items())
    return f"{settings['name']}:{unusual}" if unusual else settings["name"]


def removals_of(
    study: LeaveKOut,
    truth: GroundTruth,
    attributor: Attributor,
    method: AttributionMethod,
    work: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Removal]:
    """For each query, the k images that the method ranks first; ties in the order of the lab's images."""
    chosen = study.chosen(truth)
    scores = scores_of(chosen, truth, attributor, method, work, on_progress)
    first = np.argsort(-scores, axis=1, kind="stable")[:, : study.k]
    return [
        Removal(number, frozenset(truth.plan.images[column] for column in columns))
        for number, columns in zip(chosen, first, strict=True)
    ]


def run(
    study: LeaveKOut,
    truth: GroundTruth,
    removals: dict[str, list[Removal]],
    journal: Journal,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, list[Outcome]]:
    """What removing nothing, and each method's images, does to each query, by the methods' labels.

    All methods are run on a query before the next query.
    """
    rows = {"nothing": [Removal(number, frozenset()) for number in study.chosen(truth)], **removals}
    in_turn = [*rows["nothing"], *(removal for turn in zip(*removals.values(), strict=True) for removal in turn)]
    outcomes = Retraining(truth, journal).outcomes(in_turn, on_progress)
    return {name: [outcomes[removal] for removal in of_row] for name, of_row in rows.items()}


def as_report(
    study: LeaveKOut,
    truth: GroundTruth,
    runs: Sequence[tuple[Attributor, AttributionMethod]],
    outcomes: dict[str, list[Outcome]],
) -> dict[str, Any]:
    """Means over queries and their excess over random images, with intervals, in JSON's types.

    `runs` has each method with the attributor that it was run with.
    """
    settings = {label_of(method): settings_on(attributor, method) for attributor, method in runs}
    baseline = next(name for name, of_one in settings.items() if of_one["method"]["name"] == BASELINE)
    # These differ between methods, as only some have a null distribution.
    of_method = ("method", "index", "reference_queries")
    common = {key: value for key, value in settings[baseline].items() if key not in of_method}
    ids = [truth.plan.queries[number].id for number in study.chosen(truth)]
    counts = {"k": study.k, "images": len(truth.plan.images), "queries": ids, "part": study.part, "seed": SEED}
    return {
        "study": "leave_k_out",
        "settings": {
            **common,
            **counts,
            "methods": {name: {key: of_one[key] for key in of_method} for name, of_one in settings.items()},
        },
        "baseline": baseline,
        "rows": {name: summary(of_row, outcomes[baseline]) for name, of_row in outcomes.items()},
    }


def summary(outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> dict[str, Any]:
    """For each measure its value for each query, their mean, and the mean difference to `baseline` over queries."""
    ours, others = [asdict(outcome) for outcome in outcomes], [asdict(outcome) for outcome in baseline]
    measures = {}
    for measure in MEASURES:
        each = [outcome[measure] for outcome in ours]
        excess = [a - b[measure] for a, b in zip(each, others, strict=True)]
        measures[measure] = {"each": each, **_mean(each), "over_random": _mean(excess)}
    return measures


def as_table(report: dict[str, Any]) -> str:
    """A table for each measure, all in thousandths."""
    settings, lines = report["settings"], []
    width = max(len(name) for name in report["rows"])
    for measure, title in MEASURES.items():
        lines.append(f"{title}, × 1000")
        lines.append(f"{'removed':{width}}  {'mean':24} {'above ' + report['baseline']}")
        for name, row in report["rows"].items():
            excess = "" if name == report["baseline"] else _shown(row[measure]["over_random"])
            lines.append(f"{name:{width}}  {_shown(row[measure]):24} {excess}".rstrip())
        lines.append("")
    count = len(settings["queries"])
    lines.append(
        f"{settings['k']} of {settings['images']} images removed for each of {count} queries generated by the model."
    )
    lines.append("“nothing”: trained again on all images with another seed. Brackets: 95 % intervals over queries.")
    lines.append(f"Weights moved: {settings['tunable']}.")
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "interval": mean_interval(values)}


def _shown(mean: dict[str, Any]) -> str:
    low, high = mean["interval"]
    return f"{1000 * mean['mean']:7.2f} [{1000 * low:.2f}, {1000 * high:.2f}]"
