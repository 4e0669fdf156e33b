"""What the studies' reports say in short: the figures that the page Evidence opens with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OURS = "forward_inf"
Report = Mapping[str, Any]  # a study's report, or a part of one


@dataclass(frozen=True)
class Bar:
    """A method's linear datamodelling score; `low`, `high` and `end` are percentages of the chart's width."""

    name: str
    value: float  # × 100
    low: float
    high: float
    end: float
    ours: bool


@dataclass(frozen=True)
class Summary:
    """What the reports say in short, in the words that a person reads."""

    queries: int
    clean: str
    degraded: str
    unrelated: int
    false: str
    memorised: int
    found: str
    lds: str
    best_lds: str
    map: str
    best_map: str
    bars: list[Bar]


def summary_of(folder: Path) -> Summary | None:
    """The summary of the reports in `folder`; None unless all that it needs are there."""
    lds = _by_method(folder, "lds", lambda report: report["lds"]["all"])
    recall = _by_method(folder, "customisation", _reported)
    retrieval, calibration = (folder / f"{name}.json" for name in (f"self-retrieval-{OURS}", "calibration"))
    if not (OURS in lds and OURS in recall and retrieval.is_file() and calibration.is_file()):
        return None
    variants = {row["variant"]: row for row in _read(retrieval)["variants"]}
    (unrelated,) = (row for row in _read(calibration)["false_discovery"] if row["kind"] == "all unrelated")
    memorised = _read(calibration)["detection"]
    return Summary(
        queries=variants["clean"]["queries"],
        clean=_percent(variants["clean"]["rank_1"]),
        degraded=_percent(variants["degraded"]["rank_1"]),
        unrelated=unrelated["queries"],
        false=_percent(unrelated["share"]),
        memorised=memorised["queries"],
        found=_percent(memorised["share"]),
        lds=f"{lds[OURS]['mean']:.1f}",
        best_lds=_best(lds, "{:.1f}"),
        map=f"{recall[OURS]['mean']:.3f}",
        best_map=_best(recall, "{:.3f}"),
        bars=_bars(lds),
    )


def _by_method(folder: Path, study: str, of: Callable[[Report], Report]) -> dict[str, Report]:
    """What `of` takes from each method's report of a study, by the method's name, the best first."""
    reports = {path.stem.removeprefix(f"{study}-"): of(_read(path)) for path in sorted(folder.glob(f"{study}-*.json"))}
    return dict(sorted(reports.items(), key=lambda entry: -entry[1]["mean"]))


def _reported(report: Report) -> Report:
    """The mean average precision over all cases that no setting was chosen on."""
    (group,) = (g for g in report["groups"] if g["part"] == "reported" and g["kind"] == "all")
    return group["map"]


def _best(scores: Mapping[str, Report], number: str) -> str:
    """The best method besides ours, and its score."""
    name = next(name for name in scores if name != OURS)
    return f"{_spoken(name)}, {number.format(scores[name]['mean'])}"


def _bars(lds: Mapping[str, Report]) -> list[Bar]:
    most = max(report["interval"][1] for report in lds.values())

    def share(value: float) -> float:
        return round(100 * max(0.0, value) / most, 1)

    return [
        Bar(
            name=_spoken(name),
            value=report["mean"],
            low=share(report["interval"][0]),
            high=share(report["interval"][1]),
            end=share(report["mean"]),
            ours=name == OURS,
        )
        for name, report in lds.items()
    ]


def _spoken(method: str) -> str:
    """A method's name on the page: the variants of similarity are reported by what they compare."""
    compared = {"similarity": "features", "latents": "latents", "centred_latents": "centred latents"}
    return f"similarity of {compared[method]}" if method in compared else method


def _percent(share: float) -> str:
    return f"{share:.1%}".replace(".0%", "%")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
