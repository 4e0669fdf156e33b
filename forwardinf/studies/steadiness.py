"""How far an answer changes with other noise: whether its standard errors and ranges of ranks say as much.

    forwardinf study steadiness

The lab's images are indexed at several draw seeds, each index with a reference of its own, and every query is asked of
each of them. Beside the noise only the sample differs that the Fisher is taken of, so how far an image's scores spread
between seeds is what its standard error should be, and the ranks that it has at other seeds are those that its range
would have to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.attributor import Attributor
from ..errors import InvalidRequest
from ..methods.protocol import AttributionMethod
from ..scoring.confidence import rank_ranges
from ..types import InfluenceScores
from .ground_truth import GroundTruth, require_part
from .settings import settings_on


@dataclass(frozen=True)
class Steadiness:
    """What is asked: the first `queries` of each origin of a part, at so many draw seeds, and the first images."""

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
            raise InvalidRequest(f"Of the lab's queries the part “{self.part}” has none.")
        return sorted(numbers)


def run(
    study: Steadiness,
    truth: GroundTruth,
    attributors: Sequence[Attributor],
    method: AttributionMethod,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[InfluenceScores]]:
    """What the indexes say of each query, one list for each."""
    numbers, found = study.chosen(truth), []
    for done, number in enumerate(numbers):
        on_progress(done, len(numbers))
        picture, caption = truth.picture(number), truth.plan.queries[number].caption
        found.append([attributor.attribute(picture, caption, method) for attributor in attributors])
    on_progress(len(numbers), len(numbers))
    return found


def as_report(
    study: Steadiness, attributor: Attributor, method: AttributionMethod, found: list[list[InfluenceScores]]
) -> dict[str, Any]:
    """Of the images that come first on average over seeds, in JSON's types.

    `spread` is the root of the mean variance of their scores between seeds, `claimed` that of their squared standard
    errors, `ratio` the median over images of the one by the other. `within`: how often the rank at one seed lies in the
    range that another gives it. `again`: how many of the images that come first at one seed do so at another.
    """
    spread, claimed, ratio, within, again = [], [], [], [], []
    for answers in found:
        scores = np.stack([answer.scores.numpy() for answer in answers])
        errors = np.stack([answer.standard_errors.numpy() for answer in answers])
        ranges = np.stack([rank_ranges(answer).numpy() for answer in answers])
        ranks = 1 + (-scores).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        first = (-scores.mean(axis=0)).argsort(kind="stable")[: study.top]
        between, own = scores[:, first].var(axis=0, ddof=1), np.square(errors[:, first]).mean(axis=0)
        spread.extend(between)
        claimed.extend(own)
        ratio.extend(np.sqrt(own[between > 0] / between[between > 0]))
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
    """What was found, in Markdown that reads as well as it is."""
    settings = report["settings"]
    yield (
        f"{settings['queries']} queries of the {settings['part']} part, each asked at {settings['seeds']} draw seeds; "
        f"of the {settings['top']} images that come first on average:"
    )
    yield ""
    yield (
        f"- scores spread by {report['spread']:.2f} between seeds, standard errors say {report['claimed']:.2f}; the "
        f"median image's says {report['ratio']:.2f} times its spread"
    )
    yield f"- {report['within']:.0%} of ranks at another seed lie within the range that an answer gives"
    yield f"- {report['again']:.0%} of the first {settings['top']} at one seed are among those at another"
