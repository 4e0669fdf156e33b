"""The figures that the page Evidence opens with are those of the reports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from forwardinf.web.evidence import STUDIES
from forwardinf.web.reports import summary_of

SHIPPED = summary_of(STUDIES)


def read(name: str) -> dict:
    return json.loads((STUDIES / name).read_text(encoding="utf-8"))


def test_the_summary_says_what_the_reports_say():
    assert SHIPPED
    calibration = read("calibration.json")
    assert SHIPPED.memorised == calibration["detection"]["queries"]
    assert float(SHIPPED.found.rstrip("%")) == pytest.approx(100 * calibration["detection"]["share"], abs=0.05)
    assert SHIPPED.lds == f"{read('lds-forward_inf.json')['lds']['all']['mean']:.1f}"


def test_the_best_other_method_is_named_also_where_it_is_better():
    assert SHIPPED
    others = {bar.name: bar.value for bar in SHIPPED.bars if not bar.ours}
    assert SHIPPED.best_lds.startswith(max(others, key=others.__getitem__))
    assert len(others) == len(list(STUDIES.glob("lds-*.json"))) - 1


def test_bars_are_sorted_and_lie_within_the_chart():
    assert SHIPPED
    values = [bar.value for bar in SHIPPED.bars]
    assert values == sorted(values, reverse=True)
    assert all(0 <= bar.low <= bar.end <= bar.high <= 100 for bar in SHIPPED.bars)


def test_without_a_report_there_is_no_summary(tmp_path: Path):
    assert summary_of(tmp_path) is None
    shutil.copy(STUDIES / "lds-forward_inf.json", tmp_path)
    assert summary_of(tmp_path) is None
