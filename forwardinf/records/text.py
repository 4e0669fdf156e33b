"""An answer in words, and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..scoring.confidence import FEWEST_FOR_VERDICT
from ..visible import on_a_line
from .origin import origin_notes
from .record import ConfidenceRecord, Match, Record

UNKNOWN = ("", "unknown")  # what a catalog says of a creator or a licence that it does not know


@dataclass(frozen=True)
class Verdict:
    """What may be said of an answer as a whole."""

    headline: str  # one sentence
    explanation: str  # what it rests on, or what to try


def verdict_of(record: Record) -> Verdict:
    """Whether images stand out, which one most, and against what."""
    confidence, standing_out = record.confidence, record.standing_out
    if confidence.number_standing_out is None:
        return Verdict("It is not known whether any image stands out.", _unknown(confidence))
    if not standing_out:
        first = record.results[:1]
        return Verdict("No training image stands out.", " ".join(_as_high(confidence, match) for match in first))
    others = confidence.number_standing_out - 1
    also = f", and {others:,} {'other' if others == 1 else 'others'} stand out." if others else ", stands out."
    listed = f" Listed here: {len(standing_out):,}." if len(standing_out) < confidence.number_standing_out else ""
    return Verdict(credited(standing_out[0]) + also, _as_high(confidence, standing_out[-1]) + listed)


def with_verdict(record: Record) -> Record:
    verdict = verdict_of(record)
    return record.model_copy(update={"verdict": f"{verdict.headline} {verdict.explanation}"})


def credited(match: Match) -> str:
    """“Flamingo, by Ada (CC BY-SA 4.0)”; without a creator or a licence that is not known."""
    name = match.subject[:1].upper() + match.subject[1:]
    creator = "" if match.creator in UNKNOWN else f", by {match.creator}"
    return name + creator + ("" if match.licence in UNKNOWN else f" ({licence_name(match.licence)})")


def licence_name(spdx: str) -> str:
    """A licence as people write it: “CC BY-SA 4.0” for CC-BY-SA-4.0; other SPDX identifiers are kept."""
    parts = spdx.split("-")
    return f"CC {'-'.join(parts[1:-1])} {parts[-1]}" if parts[0] == "CC" and len(parts) > 2 else spdx


def fallback_note(record: Record) -> str:
    """Which caption was used because no prompt was given; empty where one was."""
    caption = record.query.fallback_caption
    if caption is None:
        return ""
    note = f"No prompt was given, so the caption of the most similar training image was used: “{caption}”."
    if any(match.is_fallback_caption for match in record.standing_out):
        note += " That image stands out, and using its caption raised its score: give the prompt if you know it."
    return note


def weighed_note(record: Record) -> str:
    """What an answer rests on that did not weigh every training image; empty where it did."""
    weighed = record.weighed
    if weighed is None:
        return ""
    others = f"{weighed.overlooked:.1f}" if weighed.overlooked >= 0.05 else "Fewer than 0.1"
    return (
        f"{weighed.images:,} of {record.index.trained:,} training images were weighed, the most likely ones and a "
        f"sample of the rest, until {weighed.ended}. {others} of the others are expected among the first "
        f"{weighed.first}."
    )


def rank_range(match: Match) -> str:
    """“1–3”: the ranks the image has when any one draw is left out."""
    best, worst = match.rank_range
    return f"{best:,}" if best == worst else f"{best:,}–{worst:,}"


def as_table(record: Record) -> str:
    """The verdict and the results with their credits, best first, above the notes and the caution."""
    verdict = verdict_of(record)
    lines = [on_a_line(verdict.headline), on_a_line(verdict.explanation), ""]
    learned = f" {'loss':>7} {'without':>7}" if any(m.adapter for m in record.results) else ""
    lines += [
        f"{'':>4} {'score':>8} {'± s.e.':>7} {'p':>5} {'ranks':>9}{learned}  {'caption':40} {'creator':30} licence"
    ]
    lines += [
        f"{m.rank:>4} {m.score:>8.3f} {_or_dash(m.standard_error, 7, 3)} {_or_dash(m.p_value, 5, 2)} "
        f"{rank_range(m):>9}{_learned(m)}  {on_a_line(m.caption)[:40]:40} {on_a_line(m.creator)[:30]:30} "
        f"{on_a_line(m.licence)}"
        for m in record.results
    ]
    told = [*origin_notes(record), fallback_note(record), weighed_note(record), record.caution]
    notes: Sequence[str] = [*record.query.notes, *told]
    return "\n".join([*lines, "", *map(on_a_line, filter(None, notes))])


def _learned(match: Match) -> str:
    """The loss with the model's adapter and without it; empty for a model without one."""
    return f" {match.adapter.loss:>7.4f} {match.adapter.loss_without:>7.4f}" if match.adapter else ""


def _unknown(confidence: ConfidenceRecord) -> str:
    if not confidence.null_pictures:
        return (
            "The index has no null distribution for these settings: it was not recorded how high images score for "
            "pictures that the model never saw."
        )
    count = f"{confidence.null_pictures} picture{'' if confidence.null_pictures == 1 else 's'}"
    return (
        f"The index holds the scores of {count} that the model never saw, and a verdict takes at least "
        f"{FEWEST_FOR_VERDICT}. Build the index with more null pictures (--null)."
    )


def _as_high(confidence: ConfidenceRecord, match: Match) -> str:
    """How many of the null pictures have an image that scores as high as `match`."""
    assert match.p_value is not None  # as it is known whether images stand out
    count = round(match.p_value * (1 + confidence.null_pictures)) - 1
    as_match = " as the last of these" if count and match.stands_out and match.rank > 1 else ""
    never_seen = f"{confidence.null_pictures} pictures that the model never saw"
    return f"{count or 'None'} of {never_seen} scored as high{as_match}."


def _or_dash(number: float | None, width: int, digits: int) -> str:
    return f"{'–':>{width}}" if number is None else f"{number:>{width}.{digits}f}"
