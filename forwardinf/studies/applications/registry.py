"""The studies of uses, found by their files; their reports, which are kept so that a suite that was cut off goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from ...errors import InvalidRequest, MissingAsset
from ...files.atomic import write_json
from .. import plots
from .protocol import Study


def studies() -> dict[str, Study]:
    """Every study, by name."""
    folder = str(Path(__file__).parent)
    modules: list[Any] = [import_module(f"{__package__}.{found.name}") for found in iter_modules([folder])]
    return {module.NAME: module for module in modules if hasattr(module, "NAME")}


def require(name: str) -> Study:
    """Raises InvalidRequest for a name that no study has."""
    known = studies()
    if name not in known:
        raise InvalidRequest(f"There is no study of “{name}”; the uses that are studied: {', '.join(known)}.")
    return known[name]


def reported(study: Study, folder: Path, quick: bool) -> dict[str, Any]:
    """The report of a study: the one that is kept in `folder`, if it is of the same size, or else a new one."""
    size = study.QUICK if quick else study.FULL
    file, settings = folder / f"{study.NAME}.json", json.loads(json.dumps(asdict(size)))
    if not (file.is_file() and _read(file)["settings"] == settings):
        found = study.run(size)
        write_json(file, {"study": study.NAME, "settings": settings, **asdict(found)})
        if found.points:
            _plot(study, found.points, file.with_suffix(".svg"))
    return _read(file)


def _read(file: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return report if "settings" in report else {"settings": None}
    except ValueError:
        return {"settings": None}  # it is made anew


def _plot(study: Study, points: Mapping[str, Sequence[tuple[float, float]]], file: Path) -> None:
    try:
        plots.save(lambda axes: plots.scatter(axes, points, study.AXES), file)
    except ImportError as error:
        raise MissingAsset("The plots need matplotlib, which is not installed. Run: pip install matplotlib") from error


def as_table(reports: list[dict[str, Any]]) -> str:
    """Every figure in Markdown, by study, with its interval and whether its goal is met."""
    return "\n".join(line for report in reports for line in _section(report))


def _section(report: dict[str, Any]) -> Iterator[str]:
    yield f"### {require(report['study']).TITLE}\n"
    timed = any(figure["seconds"] is not None for figure in report["figures"])
    yield f"| measured | by | figure | goal |{' seconds |' if timed else ''}"
    yield f"|---|---|---|---|{'---|' if timed else ''}"
    last = ""
    for figure in report["figures"]:
        low, high = figure["interval"] or (None, None)
        value = f"{figure['value']:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else "")
        goal = figure["goal"]
        met = "–" if goal is None else f"≥ {goal:g}: {'met' if figure['value'] >= goal else 'not met'}"
        took = f" {figure['seconds']:.1f} |" if figure["seconds"] is not None else " – |"
        what, last = (figure["what"] if figure["what"] != last else ""), figure["what"]
        yield f"| {what} | {figure['by']} | {value} | {met} |{took if timed else ''}"
    yield ""
    yield from (f"{note}\n" for note in report["notes"])
