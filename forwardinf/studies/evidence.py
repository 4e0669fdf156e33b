"""What the studies found, side by side: from their reports to tables and plots.

    forwardinf study report

A folder of reports, one JSON file for each study and method as the study writes it, is all that this reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DamagedAsset, MissingAsset
from ..types import ModelSpec
from .calibration import GOAL_NULLS, GOAL_REPEATED, notes
from .intervals import mean_interval
from .self_retrieval import GOAL_QUERIES
from .settings import changed
from .steadiness import lines_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLES = "figures.md"
OURS = "forward_inf"
GOAL_CASES = 12  # of customisation, in the reported part
GOAL_LDS, GOAL_SUBSETS = 170, 64  # queries of the reported part
GOAL_LEFT_OUT = 8  # queries of leave-k-out
GREY, ACCENT, OTHER = "#80868b", "#0d9488", "#9aa0a6"  # legible on a light page and on a dark one
COLOURS = 10  # before matplotlib begins with the first again
Report = dict[str, Any]


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


def as_markdown(reports: Sequence[Report], plots: Collection[str] = ()) -> str:
    """A section for each study: what it asks, a table with ours in bold, and its plot if that is among `plots`."""
    parts = []
    for section in SECTIONS:
        if found := section.of(reports):
            parts.append(f"### {section.title}\n\n{section.question}\n\n" + "\n".join(section.lines_of(found)))
            if section.plot and section.plot.name in plots:
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
        **dict.fromkeys(coloured, GREY),
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


def _self_retrieval(reports: Sequence[Report]) -> Iterator[str]:
    yield "| copy | method | queries | rank 1 | top 10 | goal |"
    yield "|---|---|---|---|---|---|"
    asked = [(row, report) for report in reports for row in report["variants"]]
    copies = list(dict.fromkeys(row["variant"] for row, _ in asked))
    for row, report in sorted(asked, key=lambda pair: (copies.index(pair[0]["variant"]), *_best_first(*pair))):
        shares = " | ".join(_share(row[f], row[f"{f}_interval"]) for f in ("rank_1", "top_10"))
        set_for_ours = row["goal"].items() if _is_ours(report) else ()
        goal = "".join(_goal(f"{f.replace('_', ' ')} ≥ {least:.0%}", row["goal_met"]) for f, least in set_for_ours)
        bare = "" if report["settings"]["prompt"] == "caption" else ", no prompt"
        yield f"| {row['variant']} | {_named(report)}{bare} | {row['queries']} | {shares} | {goal or '–'} |"
    settings = reports[0]["settings"]
    among = f"{settings['candidates']:,} of {settings['training_images']:,} training images"
    yield ""
    yield (
        f"Asked with the image's own caption unless said otherwise; ranked among {among}. Goals are set for "
        f"{GOAL_QUERIES} queries; where a figure reaches its goal, its interval may not."
    )


def _best_first(row: dict[str, Any], report: Report) -> tuple[object, ...]:
    """Of one copy by several methods; where two are as good, ours is named first."""
    return -row["rank_1"], -row["top_10"], not _is_ours(report), report["settings"]["prompt"]


def _customisation(reports: Sequence[Report]) -> Iterator[str]:
    yield "| method | cases | R@1 | R@5 | R@10 | mAP | 95 % interval |"
    yield "|---|---|---|---|---|---|---|"
    rows = [(_reported(report), report) for report in reports]
    for row, report in sorted(rows, key=lambda pair: -pair[0]["map"]["mean"]):
        recalls = " | ".join(f"{row['recall'][str(k)]['mean']:.3f}" for k in (1, 5, 10))
        mean, interval = row["map"]["mean"], row["map"]["interval"]
        shown = "–" if interval is None or interval[0] == interval[1] else f"{interval[0]:.3f} – {interval[1]:.3f}"
        yield f"| {_named(report)} | {row['cases']} | {recalls} | {mean:.3f} | {shown} |"
    row, settings = rows[0][0], reports[0]["settings"]
    best = ", ".join(f"{row['recall'][str(k)]['best_possible']:.3f}" for k in (1, 5, 10))
    yield ""
    yield (
        f"The {row['part']} part; {settings['pictures']} pictures of each case, among {settings['candidates']:,} "
        f"training images and the exemplars. R@k: recall of the exemplars, at best {best}. No interval where cases are "
        "alike."
    )
    figures = {label_of(r["settings"]): row["map"]["mean"] for row, r in rows}
    if OURS in figures:
        own = next(row for row, report in rows if _is_ours(report))
        enough = own["cases"] >= GOAL_CASES and own["part"] == "reported"
        yield ""
        yield f"- {_goal('mAP ≥ 0.90', figures[OURS] >= 0.90 if enough else None)}"
        yield f"- {_goal('above every rival', _first(figures) if enough else None)}"


def _lds(reports: Sequence[Report]) -> Iterator[str]:
    yield "| method | queries | LDS × 100 | 95 % interval over subsets |"
    yield "|---|---|---|---|"
    for report in sorted(reports, key=lambda report: -report["lds"]["all"]["mean"]):
        row = report["lds"]["all"]
        low, high = row["interval"]
        yield f"| {_named(report)} | {row['queries']} | {row['mean']:.1f} | {low:.1f} – {high:.1f} |"
    most, settings = max((r["lds"]["all"] for r in reports), key=lambda row: row["queries"]), reports[0]["settings"]
    yield ""
    yield (
        f"Of the {settings['part']} part, over {settings['subsets']} half subsets; at other noise the truth would "
        f"agree with itself to {most['reliability']:.0f}."
    )
    figures = {label_of(report["settings"]): report["lds"]["all"]["mean"] for report in reports}
    if OURS in figures:
        own = next(report for report in reports if _is_ours(report))
        asked = own["lds"]["all"]["queries"], own["settings"]["subsets"]
        enough = asked[0] >= GOAL_LDS and asked[1] >= GOAL_SUBSETS and own["settings"]["part"] == "reported"
        yield ""
        yield f"- {_goal('above every rival', _first(figures) if enough else None)}"


def _steadiness(reports: Sequence[Report]) -> Iterator[str]:
    for report in reports:
        yield from lines_of(report)


def _leave_k_out(reports: Sequence[Report]) -> Iterator[str]:
    yield "| left out | rise of the query's loss | more than random | change of the picture | more than random |"
    yield "|---|---|---|---|---|"
    for report in reports:
        for name, row in sorted(report["rows"].items(), key=lambda pair: -pair[1]["loss"]["mean"]):
            cells = []
            for measure in ("loss", "pixels"):
                low, high = row[measure]["over_random"]["interval"]
                beyond = f"{1000 * row[measure]['over_random']['mean']:.1f} [{1000 * low:.1f}, {1000 * high:.1f}]"
                cells += [f"{1000 * row[measure]['mean']:.1f}", "–" if name == report["baseline"] else beyond]
            shown = f"**`{name}`**" if name == OURS else f"`{name}`" if name != "nothing" else name
            yield f"| {shown} | {' | '.join(cells)} |"
        settings = report["settings"]
        yield ""
        yield (
            f"All × 1000. {settings['k']} of {settings['images']} images left out for each of "
            f"{len(settings['queries'])} drawn queries. Brackets: 95 % intervals over queries."
        )
        if OURS in report["rows"]:
            yield ""
            for measure, told in (("loss", "rise of the loss"), ("pixels", "change of the picture")):
                figures = {name: row[measure]["mean"] for name, row in report["rows"].items()}
                enough = len(settings["queries"]) >= GOAL_LEFT_OUT
                goal = _goal(f"a larger {told} than every rival", _first(figures) if enough else None)
                rival = _best_rival(figures)
                yield f"- {goal}{_beyond(rival, report['rows'], measure) if rival else ''}"


def _beyond(rival: str, rows: Mapping[str, Report], measure: str) -> str:
    """By how much ours lies above a rival, query by query, which all methods share."""
    differences = 1000 * (np.array(rows[OURS][measure]["each"]) - np.array(rows[rival][measure]["each"]))
    low, high = mean_interval(differences)
    return f" (query by query, less `{rival}`: {differences.mean():.1f} [{low:.1f}, {high:.1f}])"


def _calibration(reports: Sequence[Report]) -> Iterator[str]:
    yield "| queries | number | sources | with an image called | goal |"
    yield "|---|---|---|---|---|"
    for report in reports:
        for row in report["false_discovery"]:
            shown, most = _share(row["share"], row["interval"]), report["rate"]
            met = row["share"] <= most if row["queries"] >= GOAL_NULLS else None
            whole = row is report["false_discovery"][-1]  # the kinds are parts of what the goal is set for
            goal = _goal(f"≤ {most:.0%}, every call is false", met) if whole else "–"
            yield f"| {row['kind']} | {row['queries']} | {row['sources']} | {shown} | {goal} |"
        if (found := report["detection"])["queries"]:
            count, shown = found["queries"], _share(found["share"], found["interval"])
            met = found["share"] >= found["goal"] if count >= GOAL_REPEATED else None
            goal = _goal(f"≥ {found['goal']:.0%}, that image", met)
            yield f"| repeated images, drawn anew | {count} | {count} | {shown} | {goal} |"
        yield ""
        yield f"At a nominal rate of {report['rate']:.0%}. {' '.join(notes(report))}"


def _draw_recall(axes: Axes, reports: Sequence[Report]) -> None:
    """Recall of the exemplars by depth, on the reported part."""
    for place, report in enumerate(sorted(reports, key=lambda report: -_reported(report)["map"]["mean"])):
        curve = _reported(report)["curve"]
        ours = _is_ours(report)
        drawn: dict[str, Any] = {"linewidth": 1.2, "linestyle": "-" if place < COLOURS else "--"}
        style = {"color": ACCENT, "linewidth": 2.5, "zorder": 3} if ours else drawn
        axes.plot([int(k) for k in curve], list(curve.values()), label=label_of(report["settings"]), **style)
    axes.set(xscale="log", xlabel="depth", ylabel="recall of the exemplars", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_lds(axes: Axes, reports: Sequence[Report]) -> None:
    """LDS of each method with its interval."""
    rows = sorted(((r["lds"]["all"], label_of(r["settings"])) for r in reports), key=lambda pair: pair[0]["mean"])
    means = [row["mean"] for row, _ in rows]
    spread = [
        [row["mean"] - row["interval"][0] for row, _ in rows],
        [row["interval"][1] - row["mean"] for row, _ in rows],
    ]
    colours = [ACCENT if name == OURS else OTHER for _, name in rows]
    axes.barh([name for _, name in rows], means, xerr=spread, color=colours, ecolor=GREY, height=0.7)
    axes.set(xlabel="LDS × 100, with 95 % intervals over subsets")


def _draw_calibration(axes: Axes, reports: Sequence[Report]) -> None:
    """How often an answer to an unrelated picture has an image with as low a p-value."""
    for report in reports:
        p, rate = report["null_p_values"], report["rate"]
        shares = [(i + 1) / len(p) for i in range(len(p))]
        axes.step([0, *p, 1], [0, *shares, 1], where="post", color=ACCENT, linewidth=2.5, label=f"{len(p)} unrelated")
        axes.axvline(rate, color=GREY, linewidth=1, linestyle=":", label=f"an image is called up to here ({rate:.0%})")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="at most this is promised")
    axes.set(xlabel="lowest p-value of an answer", ylabel="share of answers", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8)


def _reported(report: Report) -> dict[str, Any]:
    """The row over both kinds of cases of the reported part, or of the only part there is."""
    rows = [row for row in report["groups"] if row["kind"] == "all"]
    found: dict[str, Any] = next((row for row in rows if row["part"] == "reported"), rows[0])
    return found


def _named(report: Report) -> str:
    label = label_of(report["settings"])
    return f"**`{label}`**" if label == OURS else f"`{label}`"


def _is_ours(report: Report) -> bool:
    return label_of(report["settings"]) == OURS


def _goal(text: str, met: bool | None) -> str:
    """A goal and whether its figure is reached; None where it is set for more than was asked so far."""
    return f"{text}: {'not decided yet' if met is None else '**met**' if met else '**not met**'}"


def _first(figures: Mapping[str, float]) -> bool | None:
    """Whether ours lies above all others; None where there is no other."""
    rival = _best_rival(figures)
    return figures[OURS] > figures[rival] if rival else None


def _best_rival(figures: Mapping[str, float]) -> str | None:
    """The name with the highest figure besides ours, if there is another."""
    return max((name for name in figures if name != OURS), key=lambda name: figures[name], default=None)


def _share(share: float, interval: Sequence[float]) -> str:
    return f"{share:.1%} [{interval[0]:.1%}, {interval[1]:.1%}]"


SECTIONS = (
    Section(
        "self_retrieval",
        "Self-retrieval",
        "A training image is the query, as it is or degraded: at which rank does it come back?",
        _self_retrieval,
    ),
    Section(
        "customisation",
        "Customisation",
        "A model is taught a few pictures that it has never seen, and draws: are they found from what it drew?",
        _customisation,
        Plot("recall.svg", "Recall of the exemplars by depth, for each method", _draw_recall),
    ),
    Section(
        "lds",
        "Linear datamodelling score",
        "A model is trained on random halves of its training set: do the scores of a half's images say what that does?",
        _lds,
        Plot("lds.svg", "Linear datamodelling score of each method, with intervals", _draw_lds),
    ),
    Section(
        "steadiness",
        "Steadiness",
        "Asked once more with other noise: do answers change as much as they say they may?",
        _steadiness,
    ),
    Section(
        "leave_k_out",
        "Leave-k-out",
        "The images that a method ranks first are left out, and the model is trained again: does the picture change?",
        _leave_k_out,
    ),
    Section(
        "calibration",
        "Calibration",
        "Is an image called to stand out only where it should be, and called where it should?",
        _calibration,
        Plot("calibration.svg", "Share of answers to unrelated pictures by their lowest p-value", _draw_calibration),
    ),
)
