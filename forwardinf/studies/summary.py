"""What the studies found, side by side: from their reports to tables and plots.

    forwardinf study report

A folder of reports is all that this reads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import plots, tables
from .reports import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLES = "figures.md"


@dataclass(frozen=True)
class Plot:
    """A plot's file name, what it shows in words, and how it is drawn."""

    name: str
    shows: str
    onto: Callable[[Axes, Sequence[Report]], None]


@dataclass(frozen=True)
class Section:
    """How the reports of one study are told."""

    study: str
    title: str
    question: str
    lines_of: Callable[[Sequence[Report]], Iterator[str]]
    plot: Plot | None = None

    def of(self, reports: Sequence[Report]) -> list[Report]:
        return [report for report in reports if report["study"] == self.study]


def as_markdown(reports: Sequence[Report], drawn: Collection[str] = ()) -> str:
    """A section for each study: what it asks, a table with ours in bold, and its plot if that is among `drawn`."""
    parts = []
    for section in SECTIONS:
        if found := section.of(reports):
            parts.append(f"### {section.title}\n\n{section.question}\n\n" + "\n".join(section.lines_of(found)))
            if section.plot and section.plot.name in drawn:
                parts.append(f"![{section.plot.shows}]({section.plot.name})")
    return "\n\n".join(parts) + "\n"


def draw(reports: Sequence[Report], folder: Path) -> list[str]:
    """Write the plots that the reports have figures for as SVG in `folder`, and return their names.

    Raises ImportError where matplotlib is missing.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    coloured = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style: dict[Any, Any] = {
        **dict.fromkeys(coloured, plots.GREY),
        "svg.hashsalt": "forwardinf",
        "svg.fonttype": "none",
        "font.size": 10,
    }
    style |= {"axes.spines.top": False, "axes.spines.right": False}
    drawn = []
    for section in SECTIONS:
        if section.plot and (found := section.of(reports)):
            with plt.rc_context(style):
                figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
                section.plot.onto(axes, found)
                figure.savefig(folder / section.plot.name, transparent=True, metadata={"Date": None})
                plt.close(figure)
            drawn.append(section.plot.name)
    return drawn


SECTIONS = (
    Section(
        "self_retrieval",
        "Self-retrieval",
        "A training image is the query, as it is or degraded: at which rank does it come back?",
        tables.self_retrieval,
    ),
    Section(
        "customisation",
        "Customisation",
        "A model is taught a few pictures that it has never seen, and draws: are they found from what it drew?",
        tables.customisation,
        Plot("recall.svg", "Recall of the exemplars by depth, for each method", plots.recall),
    ),
    Section(
        "lds",
        "Linear datamodelling score",
        "A model is trained on random halves of its training set: do the scores of a half's images say what that does?",
        tables.lds,
        Plot("lds.svg", "Linear datamodelling score of each method, with intervals", plots.lds),
    ),
    Section(
        "steadiness",
        "Steadiness",
        "Asked once more with other noise: do answers change as much as they say they may?",
        tables.steadiness,
    ),
    Section(
        "leave_k_out",
        "Leave-k-out",
        "The images that a method ranks first are left out, and the model is trained again: does the picture change?",
        tables.leave_k_out,
    ),
    Section(
        "calibration",
        "Calibration",
        "Is an image called to stand out only where it should be, and called where it should?",
        tables.calibration,
        Plot("calibration.svg", "Share of answers to unrelated pictures by their lowest p-value", plots.calibration),
    ),
)
