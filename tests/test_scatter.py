"""Influence against similarity, drawn: what is where, and what can be chosen."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from made_records import match, record

from forwardinf.examples.catalog import FIELDS, Catalog, TrainingImage
from forwardinf.records.csv import as_csv, matches_in
from forwardinf.web.scatter_view import BOTTOM, HEIGHT, POINTS, TOP, scatter

CHANCE = {"stand_out": 1, "threshold": 4.0, "highest_of_null": (1.0, 2.0, 3.0)}


def drawn(*matches, **changes) -> tuple[str, dict[str, tuple[float, float]]]:
    """The drawing, and where the point of each image is."""
    html = scatter(record(*matches[:1], confidence=CHANCE, **changes), matches, lambda example_id: f"{example_id}.webp")
    points = re.findall(r'<circle[^>]*cx="([\d.]+)" cy="([\d.]+)"[^>]*data-id="([^"]+)"', html)
    return html, {example_id: (float(x), float(y)) for x, y, example_id in points}


def numbered(number: int, score: float, similarity: float):
    return match(
        id=f"i{number}", rank=number, score=score, similarity=similarity, similarity_rank=number, stands_out=score > 4
    )


def test_further_right_is_more_similar_and_higher_more_influential():
    html, at = drawn(numbered(1, 9.0, 0.5), numbered(2, 4.0, 0.9), numbered(3, -1.0, 0.7))
    assert at["i1"][0] < at["i3"][0] < at["i2"][0]
    assert at["i1"][1] < at["i2"][1] < at["i3"][1] == HEIGHT - BOTTOM
    threshold = float(re.search(r'fi-line" d="M\d+ ([\d.]+)', html)[1])
    assert threshold == at["i2"][1]  # of the same score
    assert TOP < at["i1"][1] < threshold
    assert html.count('class="fi-out"') == 1
    assert html.count("fi-tick") == 3


def test_only_images_of_some_influence_or_similarity_are_points():
    many = [numbered(i, 1000.0 - i, 1 - i / 1000) for i in range(1, 1001)]
    similar = [m.model_copy(update={"similarity_rank": 1001 - m.rank, "similarity": m.rank / 1000}) for m in many]
    html, at = drawn(*similar, index={"trained": 1000})
    assert len(at) == 2 * POINTS
    assert {"i1", "i1000"} < at.keys()
    assert "400 other images" in html
    assert drawn(*many, index={"trained": 1000})[1].keys() == {f"i{i}" for i in range(1, POINTS + 1)}


def test_without_images_nothing_is_drawn_and_without_a_null_no_threshold():
    assert scatter(record(), (), str) == ""
    html = scatter(record(), (numbered(1, 0.0, 1.0),), str)
    assert "fi-line" not in html
    assert "threshold" not in html


def test_the_spreadsheet_of_an_answer_gives_its_matches_back():
    kept = match(standard_error=None, p_value=None, stands_out=None, per_draw=())
    others = (numbered(2, -0.125, 0.25), numbered(3, -7.5, 0.125))
    image = TrainingImage(**dict.fromkeys(FIELDS, "") | {"id": kept.id, "repeats": 3})
    catalog = Catalog(Path("c"), (image, replace(image, id="i3")))
    read = matches_in(as_csv(record(), [kept, *others]), catalog)
    assert [m.id for m in read] == [kept.id, "i3"]
    numbers = (
        "rank",
        "score",
        "standard_error",
        "p_value",
        "stands_out",
        "rank_range",
        "similarity",
        "similarity_rank",
    )
    for found, was in zip(read, (kept, others[1]), strict=True):
        assert [getattr(found, name) for name in numbers] == [getattr(was, name) for name in numbers]
