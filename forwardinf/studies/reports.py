"""Reading the reports of studies, naming their methods and comparing these.

A report is the result of one study for one method (for several methods, of leave-k-out): a JSON file that the study
writes.
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
    """Every report in a folder, ordered by file name.

    Raises MissingAsset where there is none, and DamagedAsset naming one that cannot be read.
    """
    reports = []
    for path in sorted(folder.glob("*.json")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            report["study"], report["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedAsset(f"“{path.name}” is not a study's report. Remove it, or run the study again.") from error
        reports.append(report)
    if not reports:
        raise MissingAsset(f"“{folder.name}” has no reports of studies. Run `study all`, or `study quick`.")
    return reports


def label_of(settings: dict[str, Any]) -> str:
    """The method's name, followed by everything about it that differs from the defaults."""
    method = settings["method"]
    unusual = [f"{key} {value}" for key, value in changed(method).items()]
    if settings["tunable"] != ModelSpec.tunable:
        unusual.append(f"moving {settings['tunable']}")
    if null_pictures := settings.get("reference_queries"):
        unusual += [] if method["name"] == OURS else [f"null of {null_pictures} pictures"]
    elif method["name"] == OURS and "reference_queries" in settings:
        unusual.append("without a null")
    return f"{method['name']} ({', '.join(unusual)})" if unusual else method["name"]


def reported_row(report: Report) -> dict[str, Any]:
    """Customisation's row over both kinds of cases, of the reported part if the report has it."""
    rows = [row for row in report["groups"] if row["kind"] == "all"]
    found: dict[str, Any] = next((row for row in rows if row["part"] == "reported"), rows[0])
    return found


def name_of(report: Report) -> str:
    """`label_of` in Markdown, ours in bold."""
    label = label_of(report["settings"])
    return f"**`{label}`**" if label == OURS else f"`{label}`"


def is_ours(report: Report) -> bool:
    """Whether a report is that of our method at its defaults."""
    return label_of(report["settings"]) == OURS


def goal_text(text: str, met: bool | None) -> str:
    """A goal and whether it is met; None where too little has been measured to decide."""
    return f"{text}: {'not decided yet' if met is None else '**met**' if met else '**not met**'}"


def leads(figures: Mapping[str, float]) -> bool | None:
    """Whether our figure is the highest; None where there is no other."""
    rival = best_rival(figures)
    return figures[OURS] > figures[rival] if rival else None


def best_rival(figures: Mapping[str, float]) -> str | None:
    """The name of the highest figure other than ours, if there is one."""
    return max((name for name in figures if name != OURS), key=lambda name: figures[name], default=None)


def share_text(share: float, interval: Sequence[float]) -> str:
    """A share with its interval, in percent."""
    return f"{share:.1%} [{interval[0]:.1%}, {interval[1]:.1%}]"
