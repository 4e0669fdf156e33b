"""How far do scores and ranks change with other noise, and do standard errors and rank ranges say as much?

    forwardinf study steadiness

The lab's images are indexed at several draw seeds, each index with a null distribution of its own, and every query is
run against each index. Apart from the noise, only the images from which the Fisher is estimated differ. So the spread
of an image's scores over seeds is what its standard error should be, and a rank range should contain its ranks at other
seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..attribution.attributor import Attributor
from ..errors import InvalidRequest
from ..files.identity import digest_of
from ..files.rows import RowCache
from ..methods.protocol import AttributionMethod
from ..scoring.confidence import rank_ranges
from ..types import InfluenceScores
from .ground_truth import GroundTruth, require_part
from .settings import effective, settings_on


@dataclass(frozen=True)
class Steadiness:
    """The first `queries` of each origin in a part, at `seeds` draw seeds; judged are the `top` images."""

    queries: int = 6
    seeds: int = 4
    part: str = "reported"
    top: int = 10

    def __post_init__(self) -> None:
        require_part(self.part)
        if self.queries < 1 or self.seeds < 2 or self.top < 1:
            raise InvalidRequest("Steadiness needs at least one query, two draw seeds and one image.")

    def chosen(self, truth: GroundTruth) -> list[int]:
        """Numbers of the queries. Raises InvalidRequest where the part has none."""
        numbers = [n for drawn in (True, False) for n in truth.plan.numbers(drawn, self.part)[: self.queries]]
        if not numbers:
            raise InvalidRequest(f"The lab has no queries in the part “{self.part}”.")
        return sorted(numbers)


def run(
    study: Steadiness,
    truth: GroundTruth,
    attributors: Sequence[Attributor],
    method: AttributionMethod,
    work: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[np.ndarray]:
    """For each query its `figures_of` by each attributor, `[seeds 4 n]`.

    Those in `work` are taken from there, the others are found and stored there.
    """
    numbers, total = study.chosen(truth), len(attributors) * len(study.chosen(truth))
    kept = [_kept(attributor, method, truth, work) for attributor in attributors]
    for done, (number, seed) in enumerate(itertools.product(numbers, range(len(attributors)))):
        on_progress(done, total)
        if kept[seed].get(number) is None:
            picture, caption = truth.picture(number), truth.plan.queries[number].caption
            kept[seed].put(number, figures_of(attributors[seed].attribute(picture, caption, method)).flatten())
    on_progress(total, total)
    return [np.stack([rows.rows[number].reshape(4, -1) for rows in kept]) for number in numbers]


def figures_of(answer: InfluenceScores) -> np.ndarray:
    """Scores, standard errors, best and worst ranks, `[4 n]` in float32; an unknown standard error is −1."""
    errors = answer.standard_errors.nan_to_num(nan=-1.0)
    figures: np.ndarray = torch.stack([answer.scores, errors, *rank_ranges(answer).T.float()]).float().numpy()
    return figures


def _kept(attributor: Attributor, method: AttributionMethod, truth: GroundTruth, work: Path) -> RowCache:
    """A row for each query of the lab."""
    name = digest_of(effective(settings_on(attributor, method)), 16)
    path = work / "steadiness" / f"{method.method_name()}-{name}.npy"
    return RowCache.open(path, len(truth.plan.queries), 4 * len(attributor.index.trained))


def as_report(
    study: Steadiness, attributor: Attributor, method: AttributionMethod, found: list[np.ndarray]
) -> dict[str, Any]:
    """How the images that rank first on average over seeds vary between seeds, in JSON's types.

    `spread` is the root mean square of their scores' standard deviation over seeds, `claimed` that of their standard
    errors, and `ratio` the median over images of standard error by standard deviation. `within` is the share of ranks
    at one seed that lie in the rank range from another, `again` the share of the first images at one seed that are also
    among the first at another.
    """
    spread, claimed, ratio, within, again = [], [], [], [], []
    for answers in found:
        scores, ranges = answers[:, 0], answers[:, 2:].transpose(0, 2, 1)
        errors = np.where(answers[:, 1] < 0, np.nan, answers[:, 1])
        ranks = 1 + (-scores).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        first = (-scores.mean(axis=0)).argsort(kind="stable")[: study.top]
        variance, stated = scores[:, first].var(axis=0, ddof=1), np.square(errors[:, first]).mean(axis=0)
        spread.extend(variance)
        claimed.extend(stated)
        ratio.extend(np.sqrt(stated[variance > 0] / variance[variance > 0]))
        for here in range(len(answers)):
            for other in set(range(len(answers))) - {here}:
                low, high = ranges[here][first].T
                within.extend((low <= ranks[other][first]) & (ranks[other][first] <= high))
                again.append(np.mean(ranks[other][ranks[here] <= study.top] <= study.top))
    return {
        "study": "steadiness",
        "settings": settings_on(attributor, method)
        | {"queries": len(found), "part": study.part, "seeds": study.seeds, "top": study.top},
        "spread": float(np.sqrt(np.mean(spread))),
        "claimed": float(np.sqrt(np.mean(claimed))),
        "ratio": float(np.median(ratio)),
        "within": float(np.mean(within)),
        "again": float(np.mean(again)),
    }


def as_table(report: dict[str, Any]) -> str:
    return "\n".join(lines_of(report))


def lines_of(report: dict[str, Any]) -> Iterator[str]:
    """The findings in Markdown that is legible as plain text too."""
    settings = report["settings"]
    yield (
        f"{settings['queries']} queries of the {settings['part']} part, each at {settings['seeds']} draw seeds. For "
        f"the {settings['top']} images that rank first on average:"
    )
    yield ""
    yield (
        f"- Scores vary by {report['spread']:.2f} between seeds (root mean square), while standard errors state "
        f"{report['claimed']:.2f}; for the median image, the standard error is {report['ratio']:.2f} of the variation."
    )
    yield f"- {report['within']:.0%} of the ranks at another seed lie within an answer's rank range."
    yield f"- {report['again']:.0%} of the first {settings['top']} at one seed are also among them at another."
