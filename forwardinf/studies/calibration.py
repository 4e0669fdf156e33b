"""Is an image called to stand out only where it should be, and called where it should?

    forwardinf study calibration --nulls 400

Two kinds of queries whose right answer is known. Pictures that owe nothing to the training set: every call is false, so
that the share of them with any call is the false-discovery rate. And pictures drawn anew of the images that training
showed most often, which the model knows by heart: the image must be called. Beside these, held-out images are scored in
every sweep as if they had been trained on: calling one is as false.

Defaults were chosen by the first unrelated pictures and by earlier drawings of some repeated images; none of these is
asked here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..attribution.attributor import Attributor
from ..errors import InvalidRequest
from ..methods.protocol import AttributionMethod, settings_of
from ..models.generation import GenerationRequest
from ..scoring.confidence import ENOUGH, RATE, p_values
from .intervals import clustered_interval, wilson_interval
from .journal import Journal, Trial
from .settings import settings_on
from .unrelated import unrelated

GOAL_NULLS, GOAL_REPEATED, GOAL_DETECTED = 400, 40, 0.90
SEED = 2000  # of the first regeneration; lower ones were used by training's own pictures and for choosing
CHOSEN_BY = 8  # unrelated pictures, the first ones


@dataclass(frozen=True)
class Calibration:
    """What is asked: so many unrelated pictures, and so many of the most repeated training images drawn anew."""

    nulls: int = GOAL_NULLS
    repeated: int = GOAL_REPEATED

    def __post_init__(self) -> None:
        if self.nulls < 1 or self.repeated < 0:
            raise InvalidRequest(
                "A calibration needs at least one unrelated picture, and no negative number of images."
            )


@dataclass(frozen=True)
class Asked:
    """One query; `expected` is the image that must be called, None where any call is false."""

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
) -> list[Trial]:
    """Every trial; those in the journal are kept.

    Raises InvalidRequest where the index's reference cannot tell what stands out by this method.
    """
    compared = [attributor.null_scores(method, prompted) for prompted in (True, False)]
    if any(unseen is None or len(unseen) < ENOUGH for unseen in compared):
        raise InvalidRequest(
            f"“{attributor.index.folder.name}” holds no reference of {ENOUGH} pictures or more for these settings of "
            f"{settings_of(method)['name']}, with and without prompts, so nothing can be called. `index build` asks "
            "them by the default method; take that as it is, with an index that has held-out images enough."
        )
    settings = settings_on(attributor, method)
    finished = {t["query"]: t for t in journal.trials_with(settings)}
    asked = list(_asked(study, attributor))
    for done, query in enumerate(asked):
        on_progress(done, len(asked))
        if query.name not in finished:
            trial = {"query": query.name, "kind": query.kind, **_outcome(attributor, method, query)}
            finished[query.name] = trial | {"settings": settings}
            journal.append(finished[query.name])
    on_progress(len(asked), len(asked))
    return [finished[query.name] for query in asked]


def _asked(study: Calibration, attributor: Attributor) -> Iterator[Asked]:
    for null in unrelated(CHOSEN_BY + study.nulls, attributor.model.picture_size)[CHOSEN_BY:]:
        yield Asked(null.name, null.kind, null.prompt, lambda null=null: null.picture, None)  # type: ignore[misc]
    trained = attributor.index.catalog.of_split("train").images
    often = sorted((image for image in trained if image.repeats > 1), key=lambda image: (-image.repeats, image.id))
    for number, image in enumerate(often[: study.repeated]):
        request = GenerationRequest(image.caption, seed=SEED + number)

        def drawn(request: GenerationRequest = request) -> Image.Image:
            return attributor.model.generate(request)

        yield Asked(f"drawn/{image.id}", "regenerated", image.caption, drawn, image.id)


def _outcome(attributor: Attributor, method: AttributionMethod, asked: Asked) -> Trial:
    query = attributor.query(asked.picture(), asked.prompt)
    try:
        *_, last = attributor.follow(query, method)
    except InvalidRequest as refusal:  # no step possible: nothing is called
        return {"failed": str(refusal), "called": 0, "p_value": 1.0, "expected_p_value": 1.0, "held_out_called": 0.0}
    trained, highest = last.scores(), attributor.null_scores(method, prompted=query.prompted)
    assert highest is not None
    p = p_values(trained.scores, highest)
    held_out = last.all_scores().of(attributor.index.catalog.by_id.keys() - attributor.index.trained)
    own = None if asked.expected is None else float(p[trained.example_ids.index(asked.expected)])
    return {
        "failed": None,
        "called": int((p <= RATE).sum()),
        "p_value": float(p.min()),
        "expected_p_value": own,
        "held_out_called": float((p_values(held_out.scores, highest) <= RATE).float().mean()),
    }


def as_report(trials: list[Trial]) -> dict[str, Any]:
    """False-discovery and detection rates with 95 % intervals, and the curve of null p-values, in JSON's types.

    Unrelated pictures come from few sources, which their intervals take into account. What is called beside a repeated
    image may be right or wrong, as only that image is known to have shaped the picture; so it is told.
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
    called = Counter(source for source, trial in zip(sources, trials, strict=True) if trial["called"])
    share, interval = called.total() / len(trials), clustered_interval(called, Counter(sources))
    failed = sum(trial["failed"] is not None for trial in trials)
    return {"kind": kind, "queries": len(trials), "sources": len(set(sources)), "share": share, "interval": interval,
            "failed": failed}  # fmt: skip


def as_table(report: dict[str, Any]) -> str:
    lines = [f"{'queries':22} {'count':>5} {'sources':>7}  {'with any image called':26} goal"]
    for row in report["false_discovery"]:
        lines.append(
            f"{row['kind']:22} {row['queries']:>5} {row['sources']:>7}  {_share(row):26} ≤ {report['rate']:.0%}, "
            "every call is false"
        )
    if (found := report["detection"])["queries"]:
        lines.append(
            f"{'repeated, drawn anew':22} {found['queries']:>5} {found['queries']:>7}  {_share(found):26} "
            f"≥ {found['goal']:.0%}, itself"
        )
    lines += ["", *notes(report), f"Nominal rate {report['rate']:.0%}; brackets: 95 % intervals."]
    if (count := report["false_discovery"][-1]["queries"]) < GOAL_NULLS:
        lines.append(f"The goal is set over {GOAL_NULLS} unrelated pictures; these are {count}.")
    return "\n".join(lines)


def notes(report: dict[str, Any]) -> Iterator[str]:
    """What a reader of the shares must know, sentence by sentence."""
    yield f"Compared with {report['settings']['reference_queries']} reference pictures."
    yield (
        "Sources are photographs, rules that make patterns, and images. Intervals allow for calls that come from few "
        "of them; one or two calls cannot tell that."
    )
    if failed := report["false_discovery"][-1]["failed"] + report["detection"]["failed"]:
        yield f"Pictures on which no step was possible, so that nothing was called: {failed}."
    if (found := report["detection"])["queries"]:
        yield (
            f"Beside the repeated image itself, {found['called_beside']} others are called in "
            f"{found['queries_with_more']} answers; whether they shaped the picture too is not known."
        )
    yield (
        f"A held-out image, scored as if trained on, is called in {report['held_out_called']:.1%} of the answers to "
        "unrelated pictures."
    )


def _share(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['share']:6.1%} [{low:.1%}, {high:.1%}]"
