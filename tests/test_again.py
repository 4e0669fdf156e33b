"""An answer beside the one that was kept before, and when each was given."""

from __future__ import annotations

import csv
import io

import pytest
from made_records import match, record

from forwardinf.records.csv import as_csv
from forwardinf.records.keeping import beside

FIRST = record(match(id="a", score=3.0), match(id="b", rank=2, score=1.0))


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({"a": 3.0, "b": 1.0}, "the same images with the same scores"),
        ({"a": 3.25, "b": 1.0}, "in the same order; scores differ by 0.25 at most"),
        ({"b": 3.0, "a": 1.0}, "another order. 2 of 2 images"),
        ({"a": 3.0, "c": 1.0}, "another order. 1 of 2 images"),
    ],
)
def test_scores_orders_and_images_are_compared(scores: dict[str, float], told: str):
    again = record(*(match(id=example_id, rank=r, score=s) for r, (example_id, s) in enumerate(scores.items(), 1)))
    assert told in beside(FIRST, again)


def test_every_row_of_a_spreadsheet_says_when_it_was_answered():
    rows = list(csv.DictReader(io.StringIO(as_csv(FIRST, FIRST.results), newline="")))
    assert [row["answered_at"] for row in rows] == ["2026-01-02T03:04:05+00:00"] * 2
    undated = FIRST.model_copy(update={"answered_at": None})
    assert next(csv.DictReader(io.StringIO(as_csv(undated, FIRST.results), newline="")))["answered_at"] == ""
