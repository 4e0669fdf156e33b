"""Pure functions from an attribution, running or finished, to the HTML that shows it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from ..attribution.answer import GROUPED_BY
from ..examples.catalog import TrainingImage
from ..records.origin import origin_notes
from ..records.record import GroupRecord, Match, Record
from ..records.store import Result
from ..records.text import fallback_note, licence_name, verdict_of, weighed_note
from .query_view import data_url
from .templates import render
from .training_view import collection_name

GROUPS = 8  # shown by name in a table; the others together
TITLES = {"collection": "Collection", "licence": "Licence", "creator": "Creator"}
UrlOf = Callable[[str], str]  # where the browser finds a training image, by its id
Scored = Sequence[tuple[TrainingImage, float, float]]  # with score and standard error, best first
Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # heads, and rows of cells


# While the answer comes in


def waiting(trained: int, likely_only: bool) -> str:
    """What will happen, before there is a picture; of a large training set only the likely images are weighed."""
    return render("how_it_works.html", trained=trained, likely_only=likely_only)


def preparing(text: str) -> str:
    return render("preparing.html", text=text)


def of_run(run_id: str, status: str) -> str:
    """How far a run is; scripts make a link of its id."""
    return render("of_run.html", id=run_id, status=status)


def progress(done: int, total: int, held_out: int, rate: float, seconds_left: float, at_most: bool = False) -> str:
    """How far a sweep is; `held_out` of the `total` are no training images and are compared as a check.

    With `at_most`, it may end before the total.
    """
    left = "" if at_most else _duration(seconds_left)
    compared = f"{done:,} of at most {total:,} images" if at_most else _compared(done, total, held_out)
    return render("progress.html", done=done, total=total, compared=compared, rate=rate, left=left)


def _duration(seconds: float) -> str:
    """Empty where it is not known yet."""
    if seconds == float("inf"):
        return ""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def stopped(done: int, total: int, held_out: int) -> str:
    return render("stopped.html", compared=_compared(done, total, held_out))


def _compared(done: int, total: int, held_out: int) -> str:
    return f"{done:,} of {total:,} images" + (f", {held_out:,} held out as a check" if held_out else "")


def so_far(share: float, scored: Scored, url_of: UrlOf) -> str:
    """The best images after a share of the sweep, best first."""
    matches = [
        {"rank": rank, "id": image.id, "caption": image.caption, "subject": image.subject, "score": score,
         "standard_error": None if math.isnan(error) else error}
        for rank, (image, score, error) in enumerate(scored, 1)
    ]  # fmt: skip
    return render("tiles.html", so_far=share, matches=matches, url_of=url_of, licence_name=licence_name, chosen=None)


def foreseen(images: Sequence[TrainingImage], url_of: UrlOf) -> str:
    """The images that are most likely to be found, before any is weighed."""
    matches = [
        {"rank": rank, "id": image.id, "caption": image.caption, "subject": image.subject}
        for rank, image in enumerate(images, 1)
    ]
    return render("tiles.html", so_far=0, matches=matches, url_of=url_of, licence_name=licence_name, chosen=None)


# The verdict


def finished(record: Record, result_id: str, query_url: str, not_kept: str = "") -> str:
    """The verdict, large, with what it rests on; scripts read from it which picture and prompt it answers."""
    verdict = verdict_of(record)
    remarks = (_repeats_note(record.standing_out), *record.query.notes, *origin_notes(record), not_kept)
    return render(
        "verdict.html",
        id=result_id,
        query=record.query,
        query_url=query_url,
        number_standing_out=record.confidence.number_standing_out,
        headline=verdict.headline,
        explanation=verdict.explanation,
        fallback_note=fallback_note(record),
        remarks=[remark for remark in remarks if remark],
        scale=scale(record),
        compared=_all_compared(record),
        caution=record.caution,
    )


def _all_compared(record: Record) -> str:
    took = f" in {record.seconds:.0f} s" if record.seconds else ""
    note = weighed_note(record) or f"{record.index.trained:,} training images compared."
    on = f" on {record.answered_at:%Y-%m-%d}" if record.answered_at else ""
    return f"{note} Answered{on}{took}." if on or took else note


def _repeats_note(matches: Sequence[Match]) -> str:
    """Why the model may know an image by heart."""
    often = [match for match in matches if (match.repeats or 1) > 1]
    if not often:
        return ""
    first = often[0]
    return f"Every epoch of training showed the model “{first.caption}” {first.repeats} times."


def scale(record: Record) -> str:
    """The scores on a line from 0, with the threshold; empty where no threshold is known."""
    threshold, null = record.confidence.threshold, record.confidence.highest_of_null
    if threshold is None or not record.results:
        return ""
    best = record.results[0]
    longest = 1.06 * max(best.score, threshold, *null)
    return render(
        "scale.html",
        label=_scale_label(best, threshold, null),
        threshold=threshold,
        null=null,
        best=best,
        matches=record.standing_out or (best,),
        at=lambda score, margin=0.0: f"{min(max(margin, 100 * score / longest), 100 - margin):.2f}",
    )


def _scale_label(best: Match, threshold: float, null: Sequence[float]) -> str:
    reached = f"; the highest of {len(null)} pictures that the model never saw reached {max(null):.0f}" if null else ""
    return f"Highest score {best.score:.0f}. An image stands out above {threshold:.0f}{reached}."


# The training images of an answer


def tiles(record: Record, url_of: UrlOf, chosen: str | None) -> str:
    """What stands out large, the rest folded; all alike where it is not known what stands out."""
    known, standing_out = record.confidence.number_standing_out is not None, record.standing_out
    return render(
        "tiles.html",
        so_far=None,
        verdict_known=known,
        standing_out=standing_out,
        others=[match for match in record.results if not match.stands_out],
        matches=record.results,
        url_of=url_of,
        licence_name=licence_name,
        chosen=chosen,
    )


# What else there is to an answer


def more(record: Record, result_id: str) -> str:
    """Ways to keep an answer, and what only some want to know, folded."""
    return render(
        "more.html",
        id=result_id,
        listed=len(record.results),
        shares=[_shares(kind, record) for kind in GROUPED_BY],
        groups=[_tested(kind, getattr(record.groups, kind)) for kind in GROUPED_BY if getattr(record.groups, kind)],
        reproduced_by=_reproduced_by(record),
    )


def _shares(kind: str, record: Record) -> Table:
    """How many of the listed images each group has, beside what a random choice would give where that is known."""
    listed, size = len(record.results), {group.name: group.images for group in getattr(record.groups, kind)}

    def by_chance(names: Iterable[str]) -> str:
        return f"{listed * sum(size.get(name, 0) for name in names) / record.index.trained:.1f}"

    most_first = Counter(getattr(match, kind) for match in record.results).most_common()
    rows = [(_name_of(kind, name), f"{count}", by_chance([name])) for name, count in most_first[:GROUPS]]
    if others := dict(most_first[GROUPS:]):
        rows.append((f"{len(others)} others", f"{sum(others.values())}", by_chance(others)))
    if not size:
        return (TITLES[kind], "Images"), [row[:2] for row in rows]
    return (TITLES[kind], "Images", "By chance"), rows


def _tested(kind: str, groups: Sequence[GroupRecord]) -> Table:
    """Effect size first."""
    rows = [(_name_of(kind, g.name), f"{g.outranks:.0%}", _p(g.p_value), f"{g.images:,}") for g in groups[:GROUPS]]
    if len(groups) > GROUPS:
        rows.append((f"{len(groups) - GROUPS} others", "", f"from {_p(groups[GROUPS].p_value)}", ""))
    return (f"{TITLES[kind]} ({len(groups)} tested)", "Ranks above", "p", "Images"), rows


def _name_of(kind: str, value: str) -> str:
    if kind == "licence":
        return licence_name(value)
    return collection_name(value) if kind == "collection" else value


def _p(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _reproduced_by(record: Record) -> list[tuple[str, object]]:
    query, method, mirrored = record.query, record.method, record.mirrored
    asked: list[tuple[str, object]] = [("Picture, SHA-256", query.sha256), ("Prompt", query.prompt or "(none)")]
    if query.fallback_caption is not None:
        asked.append(("Caption used instead", query.fallback_caption))
    settings = ((f"Method: {name.replace('_', ' ')}", value) for name, value in method.settings.items())
    steps = [("Loss before and after", f"{mirrored.loss_before:.5f} → {mirrored.loss_after:.5f}")] if mirrored else []
    whole = [
        ("Weights moved", record.model.tunable),
        ("Model", f"{record.model.name} {record.model.fingerprint}"),
        ("Index", f"{record.index.name} {record.index.fingerprint}".strip()),
        ("Noise levels per image, seed", f"{record.index.draws}, {record.index.draw_seed}"),
        ("Answered", f"{record.answered_at:%Y-%m-%d %H:%M} UTC" if record.answered_at else "(not recorded)"),
        ("Version", record.version),
    ]
    return list(chain(asked, [("Method", method.name)], settings, steps, whole))


# Finished answers


@dataclass(frozen=True)
class Card:
    """A finished answer on the first screen."""

    id: str
    picture: str
    query_url: str
    match: Match | None  # the image that stands out most
    match_url: str
    headline: str
    note: str


def cards(answers: Sequence[tuple[Result, str]], url_of: UrlOf) -> str:
    """Finished answers with their notes, as links; empty where there are none."""
    return render("finished.html", cards=[_card(result, note, url_of) for result, note in answers])


def _card(result: Result, note: str, url_of: UrlOf) -> Card:
    record = result.record
    match = next(iter(record.standing_out), None)
    picture = record.query.prompt or record.query.file_name
    name = match.subject[:1].upper() + match.subject[1:] if match else "Nothing"
    headline = f"{name} stands out"
    url = url_of(match.id) if match else ""
    by = f"by {match.creator}" if match else ""
    return Card(result.id, picture, data_url(result.picture), match, url, headline, note or by)
