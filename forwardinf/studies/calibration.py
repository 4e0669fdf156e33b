"""How often does an image stand out where none should, and where one must?

    forwardinf study calibration --nulls 400

The true answer is known for two kinds of queries. For pictures unrelated to the training set nothing should stand out,
so the share of them for which something does is the false-discovery rate. For pictures that the model generates from
the captions of its most repeated, memorised training images, the image with that caption must stand out. Held-out
images are swept as well, as if they had been trained on, and must not stand out either.

Settings were chosen on the first unrelated pictures and on pictures generated earlier from the captions of some
repeated images, none of which is among these queries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..attribution.attributor import Attributor
from ..attribution.shortlist import Effort
from ..errors import InvalidRequest
from ..methods.protocol import AttributionMethod
from ..models.generation import GenerationRequest
from ..scoring.confidence import FEWEST_FOR_VERDICT, RATE, p_values
from .intervals import clustered_interval, wilson_interval
from .journal import Journal, Trial
from .settings import settings_of_answers
from .unrelated import unrelated

GOAL_NULLS, GOAL_REPEATED, GOAL_DETECTED = 400, 40, 0.90
SEED = 2000  # of the first generated picture; lower ones were used while training and for choosing settings
CHOSEN_BY = 8  # the first unrelated pictures, on which settings were chosen


@dataclass(frozen=True)
class Calibration:
    """How many unrelated pictures are queried, and how many of the most repeated training images, generated again."""

    nulls: int = GOAL_NULLS
    repeated: int = GOAL_REPEATED

    def __post_init__(self) -> None:
        if self.nulls < 1 or self.repeated < 0:
            raise InvalidRequest(
                "Calibration needs at least one unrelated picture and no negative number of repeated images."
            )


@dataclass(frozen=True)
class KnownQuery:
    """A query and the id of the image that must stand out, or None where none should."""

    name: str
    kind: str
    prompt: str
    picture: Callable[[], Image.Image]
    expected: str | None


def run(
    study: Calibration,
    attributor: Attributor,
    method: AttributionMethod,
    journal: Journal,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    effort: Effort | None = None,
) -> list[Trial]:
    """Every trial; those in the journal are taken from there, the others are run and added to it.

    Answers weigh as many images as `effort` says, by default all. Raises what `require_verdicts` does.
    """
    require_verdicts(attributor, method)
    settings = settings_of_answers(attributor, method, effort)
    finished = {t["query"]: t for t in journal.trials_with(settings)}
    queries = list(_queries(study, attributor))
    for done, query in enumerate(queries):
        on_progress(done, len(queries))
        if query.name not in finished:
            trial = {"query": query.name, "kind": query.kind, **_outcome(attributor, method, query, effort)}
            finished[query.name] = trial | {"settings": settings}
            journal.append(finished[query.name])
    on_progress(len(queries), len(queries))
    return [finished[query.name] for query in queries]


def require_verdicts(attributor: Attributor, method: AttributionMethod) -> None:
    """Raise InvalidRequest where the index has no null distribution for this method that verdicts could be based on."""
    compared = [attributor.null_scores(method, prompted) for prompted in (True, False)]
    if any(unseen is None or len(unseen) < FEWEST_FOR_VERDICT for unseen in compared):
        raise InvalidRequest(
            f"“{attributor.index.folder.name}” has no null distribution from {FEWEST_FOR_VERDICT} pictures or more, "
            f"with and without prompts, for these settings of {method.method_name()}, so no image can stand out. "
            "`index build` makes one for the default method and settings from held-out images; use these, and an index "
            "that has enough of such images."
        )


def _queries(study: Calibration, attributor: Attributor) -> Iterator[KnownQuery]:
    for null in unrelated(CHOSEN_BY + study.nulls, attributor.model.picture_size)[CHOSEN_BY:]:
        yield KnownQuery(null.name, null.kind, null.prompt, lambda null=null: null.picture, None)  # type: ignore[misc]
    trained = attributor.index.catalog.of_split("train").images
    often = sorted((image for image in trained if image.repeats > 1), key=lambda image: (-image.repeats, image.id))
    for number, image in enumerate(often[: study.repeated]):
        request = GenerationRequest(image.caption, seed=SEED + number)

        def drawn(request: GenerationRequest = request) -> Image.Image:
            return attributor.model.generate(request)

        yield KnownQuery(f"drawn/{image.id}", "regenerated", image.caption, drawn, image.id)


def _outcome(attributor: Attributor, method: AttributionMethod, known: KnownQuery, effort: Effort | None) -> Trial:
    query = attributor.query(known.picture(), known.prompt)
    try:
        *_, last = attributor.follow(query, method, effort)
    except InvalidRequest as refusal:  # no step is possible: nothing stands out
        return {"failed": str(refusal), "called": 0, "p_value": 1.0, "expected_p_value": 1.0, "held_out_called": 0.0}
    trained, highest = last.scores(), attributor.null_scores(method, prompted=query.prompted)
    assert highest is not None
    p = p_values(trained.scores, highest)
    held_out = last.all_scores().of(attributor.index.catalog.by_id.keys() - attributor.index.trained)
    expected = None
    if known.expected is not None:  # one that was not weighed does not stand out
        row = trained.example_ids.index(known.expected) if known.expected in trained.example_ids else None
        expected = 1.0 if row is None else float(p[row])
    return {
        "failed": None,
        "called": int((p <= RATE).sum()),
        "p_value": float(p.min()),
        "expected_p_value": expected,
        "held_out_called": float((p_values(held_out.scores, highest) <= RATE).float().sum())
        / max(1, len(held_out.scores)),
    }


def as_report(trials: list[Trial]) -> dict[str, Any]:
    """False-discovery and detection rates with 95 % intervals, and the p-values under the null, in JSON's types.

    Unrelated pictures come from few sources, which their intervals allow for. Whether other images that stand out
    beside a repeated image shaped the picture too is unknown, so they are only counted.
    """
    nulls = [t for t in trials if t["kind"] != "regenerated"]
    drawn = [t for t in trials if t["kind"] == "regenerated"]
    rows = [_false(kind, [t for t in nulls if t["kind"] == kind]) for kind in sorted({t["kind"] for t in nulls})]
    rows.append(_false("all unrelated", nulls))
    detected = sum(t["expected_p_value"] <= RATE for t in drawn)
    beside = [t["called"] - (t["expected_p_value"] <= RATE) for t in drawn]
    return {
        "study": "calibration",
        "settings": trials[0]["settings"],
        "rate": RATE,
        "false_discovery": rows,
        "detection": {"queries": len(drawn), "share": detected / len(drawn) if drawn else None,
                      "interval": wilson_interval(detected, len(drawn)), "goal": GOAL_DETECTED,
                      "failed": sum(t["failed"] is not None for t in drawn),
                      "called_beside": sum(beside), "queries_with_more": sum(count > 0 for count in beside)},
        "held_out_called": sum(t["held_out_called"] > 0 for t in nulls) / len(nulls),
        "null_p_values": sorted(t["p_value"] for t in nulls),
    }  # fmt: skip


def _false(kind: str, trials: list[Trial]) -> dict[str, Any]:
    sources = [trial["query"].rpartition("-")[0] for trial in trials]
    # Journals count images that stand out as “called”.
    false = Counter(source for source, trial in zip(sources, trials, strict=True) if trial["called"])
    share, interval = false.total() / len(trials), clustered_interval(false, Counter(sources))
    failed = sum(trial["failed"] is not None for trial in trials)
    return {"kind": kind, "queries": len(trials), "sources": len(set(sources)), "share": share, "interval": interval,
            "failed": failed}  # fmt: skip


def as_table(report: dict[str, Any]) -> str:
    lines = [f"{'queries':22} {'count':>5} {'sources':>7}  {'an image stands out':26} goal"]
    for row in report["false_discovery"]:
        lines.append(
            f"{row['kind']:22} {row['queries']:>5} {row['sources']:>7}  {_share(row):26} ≤ {report['rate']:.0%}, "
            "as none should"
        )
    if (found := report["detection"])["queries"]:
        lines.append(
            f"{'repeated, generated':22} {found['queries']:>5} {found['queries']:>7}  {_share(found):26} "
            f"≥ {found['goal']:.0%}, the repeated image"
        )
    lines += ["", *notes(report), f"Nominal false-discovery rate: {report['rate']:.0%}. Brackets: 95 % intervals."]
    if (count := report["false_discovery"][-1]["queries"]) < GOAL_NULLS:
        lines.append(f"The goal needs {GOAL_NULLS} unrelated pictures; these are {count}.")
    return "\n".join(lines)


def notes(report: dict[str, Any]) -> Iterator[str]:
    """What a reader of the shares must know, one sentence each."""
    yield f"The null distribution comes from {report['settings']['reference_queries']} pictures."
    yield (
        "A source is a photograph, a rule for patterns, or a training image. The intervals allow for differences "
        "between sources, which one or two images that stand out cannot show."
    )
    if failed := report["false_discovery"][-1]["failed"] + report["detection"]["failed"]:
        yield f"No step was possible on {failed} of the pictures, for which nothing stands out."
    if (found := report["detection"])["queries"]:
        yield (
            f"Beside the repeated image, {found['called_beside']} others stand out in "
            f"{found['queries_with_more']} answers; whether they shaped the picture too is unknown."
        )
    yield (
        f"A held-out image, swept as if it had been trained on, stands out in {report['held_out_called']:.1%} of the "
        "answers to unrelated pictures."
    )


def _share(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['share']:6.1%} [{low:.1%}, {high:.1%}]"
