"""The table of each study in Markdown: the best method first, ours in bold, and whether each goal is met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .calibration import GOAL_NULLS, GOAL_REPEATED, notes
from .intervals import mean_interval
from .reports import OURS, Report, best_rival, goal_text, is_ours, label_of, leads, name_of, reported_row, share_text
from .self_retrieval import GOAL_QUERIES
from .steadiness import lines_of

# How much must have been measured before a goal is decided.
GOAL_CASES = 12  # of customisation, in the reported part
GOAL_LDS, GOAL_SUBSETS = 170, 64  # queries of the reported part, and subsets trained on
GOAL_LEFT_OUT = 8  # queries of leave-k-out


def self_retrieval(reports: Sequence[Report]) -> Iterator[str]:
    yield "| copy | method | queries | rank 1 | top 10 | goal |"
    yield "|---|---|---|---|---|---|"
    rows = [(row, report) for report in reports for row in report["variants"]]
    copies = list(dict.fromkeys(row["variant"] for row, _ in rows))
    for row, report in sorted(rows, key=lambda pair: (copies.index(pair[0]["variant"]), *_best_first(*pair))):
        shares = " | ".join(share_text(row[f], row[f"{f}_interval"]) for f in ("rank_1", "top_10"))
        set_for_ours = row["goal"].items() if is_ours(report) else ()
        goal = "".join(goal_text(f"{f.replace('_', ' ')} ≥ {least:.0%}", row["goal_met"]) for f, least in set_for_ours)
        bare = "" if report["settings"]["prompt"] == "caption" else ", no prompt"
        yield f"| {row['variant']} | {name_of(report)}{bare} | {row['queries']} | {shares} | {goal or '–'} |"
    settings = reports[0]["settings"]
    count, trained = settings["candidates"], settings["training_images"]
    among = f"all {trained:,} training images" if count == trained else f"{count:,} of {trained:,} training images"
    yield ""
    yield (
        f"The prompt is the image's caption unless stated otherwise; images are ranked among {among}. A goal needs "
        f"{GOAL_QUERIES} queries and is met by the figure, even if its interval extends below."
    )


def _best_first(row: dict[str, Any], report: Report) -> tuple[object, ...]:
    """Sort key of the methods queried with one kind of copy; ours comes first where two are equal."""
    return -row["rank_1"], -row["top_10"], not is_ours(report), report["settings"]["prompt"]


def customisation(reports: Sequence[Report]) -> Iterator[str]:
    yield "| method | cases | R@1 | R@5 | R@10 | mAP | 95 % interval |"
    yield "|---|---|---|---|---|---|---|"
    rows = [(reported_row(report), report) for report in reports]
    for row, report in sorted(rows, key=lambda pair: -pair[0]["map"]["mean"]):
        recalls = " | ".join(f"{row['recall'][str(k)]['mean']:.3f}" for k in (1, 5, 10))
        mean, interval = row["map"]["mean"], row["map"]["interval"]
        shown = "–" if interval is None or interval[0] == interval[1] else f"{interval[0]:.3f} – {interval[1]:.3f}"
        yield f"| {name_of(report)} | {row['cases']} | {recalls} | {mean:.3f} | {shown} |"
    row, settings = rows[0][0], reports[0]["settings"]
    best = ", ".join(f"{row['recall'][str(k)]['best_possible']:.3f}" for k in (1, 5, 10))
    yield ""
    yield (
        f"Cases of the {row['part']} part, {settings['pictures']} pictures each, ranked among "
        f"{settings['candidates']:,} training images and the exemplars. R@k: recall of the exemplars within the first "
        f"k (at best {best}). No interval is given where all cases score the same."
    )
    figures = {label_of(r["settings"]): row["map"]["mean"] for row, r in rows}
    if OURS in figures:
        ours = next(row for row, report in rows if is_ours(report))
        enough = ours["cases"] >= GOAL_CASES and ours["part"] == "reported"
        yield ""
        yield f"- {goal_text('mAP ≥ 0.90', figures[OURS] >= 0.90 if enough else None)}"
        yield f"- {goal_text('better than every rival', leads(figures) if enough else None)}"


def lds(reports: Sequence[Report]) -> Iterator[str]:
    yield "| method | queries | LDS × 100 | 95 % interval over subsets |"
    yield "|---|---|---|---|"
    for report in sorted(reports, key=lambda report: -report["lds"]["all"]["mean"]):
        row = report["lds"]["all"]
        low, high = row["interval"]
        yield f"| {name_of(report)} | {row['queries']} | {row['mean']:.1f} | {low:.1f} – {high:.1f} |"
    most, settings = max((r["lds"]["all"] for r in reports), key=lambda row: row["queries"]), reports[0]["settings"]
    yield ""
    yield (
        f"Queries of the {settings['part']} part, {settings['subsets']} random half subsets. The rank correlation of "
        f"the true losses with themselves, measured with other noise, is {most['reliability']:.0f} (× 100)."
    )
    figures = {label_of(report["settings"]): report["lds"]["all"]["mean"] for report in reports}
    if OURS in figures:
        ours = next(report for report in reports if is_ours(report))
        queries, subsets = ours["lds"]["all"]["queries"], ours["settings"]["subsets"]
        enough = queries >= GOAL_LDS and subsets >= GOAL_SUBSETS and ours["settings"]["part"] == "reported"
        yield ""
        yield f"- {goal_text('better than every rival', leads(figures) if enough else None)}"


def steadiness(reports: Sequence[Report]) -> Iterator[str]:
    for report in reports:
        yield from lines_of(report)


def leave_k_out(reports: Sequence[Report]) -> Iterator[str]:
    yield "| removed images | rise of the query's loss | above random | change of the picture | above random |"
    yield "|---|---|---|---|---|"
    for report in reports:
        for name, row in sorted(report["rows"].items(), key=lambda pair: -pair[1]["loss"]["mean"]):
            cells = []
            for measure in ("loss", "pixels"):
                low, high = row[measure]["over_random"]["interval"]
                above = f"{1000 * row[measure]['over_random']['mean']:.1f} [{1000 * low:.1f}, {1000 * high:.1f}]"
                cells += [f"{1000 * row[measure]['mean']:.1f}", "–" if name == report["baseline"] else above]
            shown = f"**`{name}`**" if name == OURS else f"`{name}`" if name != "nothing" else name
            yield f"| {shown} | {' | '.join(cells)} |"
        settings = report["settings"]
        yield ""
        yield (
            f"All × 1000. For each of {len(settings['queries'])} queries generated by the model, {settings['k']} of "
            f"{settings['images']} images are removed. Brackets: 95 % intervals over queries."
        )
        if OURS in report["rows"]:
            yield ""
            for measure, told in (("loss", "rise of the loss"), ("pixels", "change of the picture")):
                figures = {name: row[measure]["mean"] for name, row in report["rows"].items()}
                enough = len(settings["queries"]) >= GOAL_LEFT_OUT
                goal = goal_text(f"a larger {told} than every rival", leads(figures) if enough else None)
                rival = best_rival(figures)
                yield f"- {goal}{_lead(rival, report['rows'], measure) if rival else ''}"


def _lead(rival: str, rows: Mapping[str, Report], measure: str) -> str:
    """By how much ours exceeds a rival, from the differences of the queries, which all methods share."""
    differences = 1000 * (np.array(rows[OURS][measure]["each"]) - np.array(rows[rival][measure]["each"]))
    low, high = mean_interval(differences)
    return f" (mean difference to `{rival}` over queries: {differences.mean():.1f} [{low:.1f}, {high:.1f}])"


def calibration(reports: Sequence[Report]) -> Iterator[str]:
    yield "| queries | number | sources | an image stands out | goal |"
    yield "|---|---|---|---|---|"
    for report in reports:
        for row in report["false_discovery"]:
            shown, most = share_text(row["share"], row["interval"]), report["rate"]
            met = row["share"] <= most if row["queries"] >= GOAL_NULLS else None
            whole = row is report["false_discovery"][-1]  # the goal is set for all kinds together
            goal = goal_text(f"≤ {most:.0%}, as none should", met) if whole else "–"
            yield f"| {row['kind']} | {row['queries']} | {row['sources']} | {shown} | {goal} |"
        if (found := report["detection"])["queries"]:
            count, shown = found["queries"], share_text(found["share"], found["interval"])
            met = found["share"] >= found["goal"] if count >= GOAL_REPEATED else None
            goal = goal_text(f"≥ {found['goal']:.0%}, the repeated image", met)
            yield f"| repeated images, generated again | {count} | {count} | {shown} | {goal} |"
        yield ""
        yield f"Nominal false-discovery rate: {report['rate']:.0%}. {' '.join(notes(report))}"
