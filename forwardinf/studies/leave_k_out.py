"""Leave-k-out: does a picture change when the images that a method ranks first are left out of training?

    forwardinf study leave-k-out --k 50 --method forward_inf --method tracin:normalised=true

The test of AbU (arXiv 2406.09408) and of MUCS (arXiv 2605.17938). For every query, a picture that the lab's full model
drew, a method's k first images are left out, the lab's model is trained again on the rest, and the query's denoising
loss and the picture drawn from the same prompt and seed are compared with what they were. What matters is how much more
a method's images change than as many random ones: every image is seen equally often, so that leaving out any makes
training shorter, and training has its own noise. The row that leaves out nothing shows the noise by itself; one
training with another seed serves all queries there, so its interval holds for that training alone.
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
    "pixels": "mean squared error of the picture drawn again",
    "features": "1 − cosine of the picture drawn again",
}


@dataclass(frozen=True)
class LeaveKOut:
    """What is asked of every method: the first `queries` of a part of those drawn, so that more go on from fewer.

    The defaults of forward_inf were chosen by the part for choosing, as they were for LDS.
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
                f"{self.k} images cannot be left out of {images}: one has to go and one has to stay. "
                f"Ask for 1 to {images - 1}."
            )
        chosen = truth.plan.numbers(drawn=True, part=self.part)[: self.queries]
        if not chosen:
            raise InvalidRequest(
                f"Leave-k-out needs a query that the lab's model drew; the part “{self.part}” has none."
            )
        return chosen


def with_baseline(methods: Sequence[AttributionMethod]) -> list[AttributionMethod]:
    """Each method once, and random ones among them."""
    different = list({label_of(method): method for method in methods}.values())
    named = [settings_of(method)["name"] for method in different]
    return different if BASELINE in named else [*different, load_method(BASELINE)]


def label_of(method: AttributionMethod) -> str:
    """The method's name and what is not at its default, as `--method` takes it."""
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
    """For each query, the k images that the method ranks first; ties in the order of the truth's images."""
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
    """What leaving out nothing, and each method's images, does to each query.

    `removals` is by the methods' labels. All methods have their turn with a query before the next one is taken up.
    """
    rows = {"nothing": [Removal(number, frozenset()) for number in study.chosen(truth)], **removals}
    in_turn = [*rows["nothing"], *(removal for turn in zip(*removals.values(), strict=True) for removal in turn)]
    outcomes = Retraining(truth, journal).outcomes(in_turn, on_progress)
    return {name: [outcomes[removal] for removal in of_row] for name, of_row in rows.items()}


def as_report(
    study: LeaveKOut,
    truth: GroundTruth,
    asked: Sequence[tuple[Attributor, AttributionMethod]],
    outcomes: dict[str, list[Outcome]],
) -> dict[str, Any]:
    """Means over queries with their intervals, and by how much they exceed those of random images, in JSON's types.

    `asked` has each method with the attributor that it was asked with.
    """
    settings = {label_of(method): settings_on(attributor, method) for attributor, method in asked}
    baseline = next(name for name, own in settings.items() if own["method"]["name"] == BASELINE)
    # What methods are asked with differs by the reference that some of them have.
    of_method = ("method", "index", "reference_queries")
    common = {key: value for key, value in settings[baseline].items() if key not in of_method}
    ids = [truth.plan.queries[number].id for number in study.chosen(truth)]
    counts = {"k": study.k, "images": len(truth.plan.images), "queries": ids, "part": study.part, "seed": SEED}
    return {
        "study": "leave_k_out",
        "settings": {
            **common,
            **counts,
            "methods": {name: {key: own[key] for key in of_method} for name, own in settings.items()},
        },
        "baseline": baseline,
        "rows": {name: summary(of_row, outcomes[baseline]) for name, of_row in outcomes.items()},
    }


def summary(outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> dict[str, Any]:
    """Of each measure its value for each query, their mean, and the mean of the queries' differences to `baseline`."""
    own, other = [asdict(outcome) for outcome in outcomes], [asdict(outcome) for outcome in baseline]
    measures = {}
    for measure in MEASURES:
        each = [outcome[measure] for outcome in own]
        beyond = [a - b[measure] for a, b in zip(each, other, strict=True)]
        measures[measure] = {"each": each, **_mean(each), "over_random": _mean(beyond)}
    return measures


def as_table(report: dict[str, Any]) -> str:
    """A table for each measure, all in thousandths."""
    settings, lines = report["settings"], []
    width = max(len(name) for name in report["rows"])
    for measure, title in MEASURES.items():
        lines.append(f"{title}, × 1000")
        lines.append(f"{'left out':{width}}  {'mean':24} {'more than ' + report['baseline']}")
        for name, row in report["rows"].items():
            beyond = "" if name == report["baseline"] else _shown(row[measure]["over_random"])
            lines.append(f"{name:{width}}  {_shown(row[measure]):24} {beyond}".rstrip())
        lines.append("")
    count = len(settings["queries"])
    lines.append(f"{settings['k']} of {settings['images']} images left out for each of {count} drawn queries.")
    lines.append("“nothing”: trained again on all images with another seed. Brackets: 95 % intervals over queries.")
    lines.append(f"Weights considered: {settings['tunable']}.")
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "interval": mean_interval(values)}


def _shown(mean: dict[str, Any]) -> str:
    low, high = mean["interval"]
    return f"{1000 * mean['mean']:7.2f} [{1000 * low:.2f}, {1000 * high:.2f}]"
