"""The plots of the studies that have one, drawn on matplotlib axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .reports import OURS, Report, is_ours, label_of, reported_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY, ACCENT, OTHER = "#80868b", "#0d9488", "#9aa0a6"  # legible on a light page and on a dark one
COLOURS = 10  # in matplotlib's cycle; then lines are dashed
WIDTH, HEIGHT = 7.2, 3.6  # inches


def save(onto: Callable[[Axes], object], file: Path) -> None:
    """Write what `onto` draws as an SVG that is the same to the byte when it is drawn again.

    Raises ImportError where matplotlib is missing.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    coloured = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style: dict[Any, Any] = {
        **dict.fromkeys(coloured, GREY),
        "svg.hashsalt": "forwardinf",
        "svg.fonttype": "none",
        "font.size": 10,
    }
    style |= {"axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
        onto(axes)
        figure.savefig(file, transparent=True, metadata={"Date": None})
        plt.close(figure)


def recall(axes: Axes, reports: Sequence[Report]) -> None:
    """Recall of the exemplars by depth, on the reported part."""
    for place, report in enumerate(sorted(reports, key=lambda report: -reported_row(report)["map"]["mean"])):
        curve = reported_row(report)["curve"]
        ours = is_ours(report)
        drawn: dict[str, Any] = {"linewidth": 1.2, "linestyle": "-" if place < COLOURS else "--"}
        style = {"color": ACCENT, "linewidth": 2.5, "zorder": 3} if ours else drawn
        axes.plot([int(k) for k in curve], list(curve.values()), label=label_of(report["settings"]), **style)
    axes.set(xscale="log", xlabel="depth", ylabel="recall of the exemplars", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def lds(axes: Axes, reports: Sequence[Report]) -> None:
    """LDS of each method with its interval, ours highlighted."""
    rows = sorted(((r["lds"]["all"], label_of(r["settings"])) for r in reports), key=lambda pair: pair[0]["mean"])
    means = [row["mean"] for row, _ in rows]
    spread = [
        [row["mean"] - row["interval"][0] for row, _ in rows],
        [row["interval"][1] - row["mean"] for row, _ in rows],
    ]
    colours = [ACCENT if name == OURS else OTHER for _, name in rows]
    axes.barh([name for _, name in rows], means, xerr=spread, color=colours, ecolor=GREY, height=0.7)
    axes.set(xlabel="LDS × 100, with 95 % intervals over subsets")


def calibration(axes: Axes, reports: Sequence[Report]) -> None:
    """Cumulative share of answers to unrelated pictures by their lowest p-value."""
    for report in reports:
        p, rate = report["null_p_values"], report["rate"]
        shares = [(i + 1) / len(p) for i in range(len(p))]
        axes.step(
            [0, *p, 1], [0, *shares, 1], where="post", color=ACCENT, linewidth=2.5, label=f"{len(p)} unrelated pictures"
        )
        axes.axvline(rate, color=GREY, linewidth=1, linestyle=":", label=f"an image stands out up to here ({rate:.0%})")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="guaranteed upper bound")
    axes.set(xlabel="lowest p-value of an answer", ylabel="share of answers", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8)


def scatter(axes: Axes, points: Mapping[str, Sequence[tuple[float, float]]], labels: tuple[str, str]) -> None:
    """Pairs by name, each name standardised by its own largest values, so that sets of other units share the axes."""
    for (name, pairs), colour in zip(points.items(), (ACCENT, OTHER, "#b45309", "#6d28d9"), strict=False):
        across, up = zip(*pairs, strict=True)
        widest, highest = (max(map(abs, side)) or 1.0 for side in (across, up))
        axes.scatter(
            [x / widest for x in across],
            [y / highest for y in up],
            s=9,
            alpha=0.5,
            color=colour,
            label=name,
            linewidths=0,
        )
    axes.plot([-1, 1], [-1, 1], color=GREY, linewidth=1, linestyle=":")
    axes.set(xlabel=f"{labels[0]}, in shares of the largest", ylabel=labels[1])
    axes.legend(frameon=False, fontsize=8)
