"""Influence against visual similarity: every image that was weighed as a point, with how far chance reaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..records.record import Match, Record
from .templates import render

WIDTH, HEIGHT = 640, 340  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 34  # margins for axes and their names
POINTS = 300  # images by influence, and as many by similarity
ALIKE = 8  # images listed for their similarity


@dataclass(frozen=True)
class Point:
    match: Match
    x: float
    y: float


def scatter(record: Record, weighed: Sequence[Match], url_of: Callable[[str], str]) -> str:
    """The images with the highest influence or similarity as points that can be chosen; empty without images.

    `weighed` are all images of the answer, best first. Scores stand on a scale of square roots, as the highest would
    leave no room for the others; what is below 0 is drawn at 0.
    """
    if not weighed:
        return ""
    by_similarity = sorted(weighed, key=lambda match: match.similarity_rank)
    shown = list({match.id: match for match in [*weighed[:POINTS], *by_similarity[:POINTS]]}.values())
    threshold, null = record.confidence.threshold, record.confidence.highest_of_null
    highest = 1.05 * max(weighed[0].score, threshold or 0.0, *null, 1e-9)
    lowest = min(match.similarity for match in shown)
    span = max(1 - lowest, 1e-9)

    def x_of(similarity: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (similarity - lowest) / span

    def y_of(score: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (max(0.0, score) / highest) ** 0.5

    return render(
        "scatter.html",
        points=[Point(match, x_of(match.similarity), y_of(match.score)) for match in reversed(shown)],
        left_out=(record.weighed.images if record.weighed else record.index.trained) - len(shown),
        threshold=None if threshold is None else (threshold, y_of(threshold)),
        null=[y_of(score) for score in null],
        lowest=lowest,
        highest=weighed[0].score,
        y_highest=y_of(weighed[0].score),
        frame={"left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM},
        size=(WIDTH, HEIGHT),
        alike=by_similarity[:ALIKE],
        url_of=url_of,
    )
