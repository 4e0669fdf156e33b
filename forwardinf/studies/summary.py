"""The reports of all studies and methods side by side, as tables and plots.

forwardinf study report
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from . import disguised, plots, tables
from .reports import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLES = "figures.md"


@dataclass(frozen=True)
class Plot:
    """A plot's file name, its description for readers who cannot see it, and the function that draws it."""

    name: str
    shows: str
    onto: Callable[[Axes, Sequence[Report]], None]


@dataclass(frozen=True)
class Section:
    """How the reports of one study are presented."""

    study: str
    title: str
    question: str
    lines_of: Callable[[Sequence[Report]], Iterator[str]]
    plot: Plot | None = None

    def of(self, reports: Sequence[Report]) -> list[Report]:
        return [report for report in reports if report["study"] == self.study]


def as_markdown(reports: Sequence[Report], drawn: Collection[str] = ()) -> str:
    """A section for each study: its question, its table, and its plot if that is among `drawn`."""
    parts = []
    for section in SECTIONS:
        if found := section.of(reports):
            parts.append(f"### {section.title}\n\n{section.question}\n\n" + "\n".join(section.lines_of(found)))
            if section.plot and section.plot.name in drawn:
                parts.append(f"![{section.plot.shows}]({section.plot.name})")
    return "\n\n".join(parts) + "\n"


def draw(reports: Sequence[Report], folder: Path) -> list[str]:
    """Write the plots for which there are reports as SVG to `folder`, and return their names.

    Raises ImportError where matplotlib is missing.
    """
    drawn = []
    for section in SECTIONS:
        if section.plot and (found := section.of(reports)):
            plots.save(partial(_drawn, section.plot, found), folder / section.plot.name)
            drawn.append(section.plot.name)
    return drawn


def _drawn(plot: Plot, reports: Sequence[Report], axes: Axes) -> None:
    plot.onto(axes, reports)


SECTIONS = (
    Section(
        "self_retrieval",
        "Self-retrieval",
        "The query is a training image, intact or degraded: at which rank does the image itself come?",
        tables.self_retrieval,
    ),
    Section(
        "disguised",
        "Copies in disguise",
        "The query is a training image, mirrored, turned, recoloured, framed, watermarked or grey: is it found?",
        lambda reports: chain.from_iterable(map(disguised.lines_of, reports)),
    ),
    Section(
        "customisation",
        "Customisation",
        "A model is fine-tuned on a few pictures that it has never seen: are they found from what it then generates?",
        tables.customisation,
        Plot("recall.svg", "Recall of the exemplars by depth, for each method", plots.recall),
    ),
    Section(
        "lds",
        "Linear datamodelling score",
        "A model is trained on random halves of its training set: do the summed scores of a half predict the result?",
        tables.lds,
        Plot("lds.svg", "Linear datamodelling score of each method, with intervals", plots.lds),
    ),
    Section(
        "steadiness",
        "Steadiness",
        "The same query, measured with other noise: do answers change as much as they claim?",
        tables.steadiness,
    ),
    Section(
        "leave_k_out",
        "Leave-k-out",
        "The images that a method ranks first are removed and the model is trained again: does the picture change?",
        tables.leave_k_out,
    ),
    Section(
        "calibration",
        "Calibration",
        "How often does an image stand out where none should, and where one must?",
        tables.calibration,
        Plot(
            "calibration.svg",
            "Cumulative share of answers to unrelated pictures by their lowest p-value",
            plots.calibration,
        ),
    ),
)
