"""A study's report, as it is read, named and compared with the reports of other methods.

A report is what one study found of one method (of several, for leave-k-out): one JSON file, as the study writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DamagedAsset, MissingAsset
from ..types import ModelSpec
from .settings import changed

OURS = "forward_inf"
Report = dict[str, Any]


def read_reports(folder: Path) -> list[Report]:
    """Every report of a folder, by file name.

    Raises MissingAsset where there is none, and DamagedAsset naming one that cannot be read.
    """
    reports = []
    for path in sorted(folder.glob("*.json")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            report["study"], report["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedAsset(
                f"“{path.name}” is not the report of a study. Remove it, or run the study again."
            ) from error
        reports.append(report)
    if not reports:
        raise MissingAsset(f"“{folder.name}” holds no report of a study. Run `study all`, or `study quick`.")
    return reports


def label_of(settings: dict[str, Any]) -> str:
    """What tells a report's method from the others: its name, and what is not as usual."""
    method = settings["method"]
    unusual = [f"{key} {value}" for key, value in changed(method).items()]
    if settings["tunable"] != ModelSpec.tunable:
        unusual.append(f"moving {settings['tunable']}")
    if asked := settings.get("reference_queries"):
        unusual += [] if method["name"] == OURS else [f"beyond habits of {asked}"]
    elif method["name"] == OURS and "reference_queries" in settings:
        unusual.append("habits left out")
    return f"{method['name']} ({', '.join(unusual)})" if unusual else method["name"]


def reported_row(report: Report) -> dict[str, Any]:
    """The row over both kinds of cases of the reported part, or of the only part there is."""
    rows = [row for row in report["groups"] if row["kind"] == "all"]
    found: dict[str, Any] = next((row for row in rows if row["part"] == "reported"), rows[0])
    return found


def name_of(report: Report) -> str:
    label = label_of(report["settings"])
    return f"**`{label}`**" if label == OURS else f"`{label}`"


def is_ours(report: Report) -> bool:
    return label_of(report["settings"]) == OURS


def goal_text(text: str, met: bool | None) -> str:
    """A goal and whether its figure is reached; None where it is set for more than was asked so far."""
    return f"{text}: {'not decided yet' if met is None else '**met**' if met else '**not met**'}"


def leads(figures: Mapping[str, float]) -> bool | None:
    """Whether ours lies above all others; None where there is no other."""
    rival = best_rival(figures)
    return figures[OURS] > figures[rival] if rival else None


def best_rival(figures: Mapping[str, float]) -> str | None:
    """The name with the highest figure besides ours, if there is another."""
    return max((name for name in figures if name != OURS), key=lambda name: figures[name], default=None)


def share_text(share: float, interval: Sequence[float]) -> str:
    return f"{share:.1%} [{interval[0]:.1%}, {interval[1]:.1%}]"
