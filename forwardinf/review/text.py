"""Cases, matches and decisions as lines for the terminal."""

from __future__ import annotations

from collections.abc import Sequence, Sized

from ..visible import on_a_line, visible
from .agreement import Agreement, Contradiction, labelled
from .cases import Case, Picture
from .chain import WITHDRAWN, Decision
from .database import Database
from .decisions import decisions_of
from .findings import FoundMatch, finding_of
from .overview import Line
from .signals import Signal, signals_of

NOT_ANSWERED = "not answered yet"


def many(things: Sized, noun: str) -> str:
    """“1 decision”, “2 decisions”."""
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"


def lines_as_table(lines: Sequence[Line]) -> str:
    """One picture a line: what the machine says, then what people decided."""
    rows = [f"{'':>4} {'picture':24} {'best match':32} {'score':>8}  machine | people"]
    for line in lines:
        score = "–" if line.best_score is None else f"{line.best_score:.1f}"
        people = "; ".join(labelled(one) for one in line.people) or "undecided"
        name, caption = on_a_line(line.picture.file_name), on_a_line(line.best_caption or "–")
        named = f"{line.picture.number:>4} {name[:24]:24} {caption[:32]:32}"
        rows.append(visible(f"{named} {score:>8}  {line.machine or NOT_ANSWERED} | {people}"))
    return "\n".join(rows)


def picture_as_text(database: Database, case: Case, picture: Picture) -> str:
    """A picture with the matches of its last answer, and every decision on it."""
    finding = finding_of(database, picture)
    lines = [
        f"Picture {picture.number} of “{case.name}”: {picture.file_name}",
        f"prompt: {picture.prompt or '–'}",
        f"SHA-256: {picture.sha256}",
        *(_signal(one) for one in signals_of(database, picture.sha256)),
        f"The machine: {finding.verdict if finding else NOT_ANSWERED}",
        *(line for match in (finding.matches if finding else ()) for line in _match_with_signals(database, match)),
        "People:",
        *(decision_as_text(one) for one in decisions_of(database, case) if one.picture == picture.sha256),
    ]
    return visible("\n".join(lines))


def decision_as_text(decision: Decision) -> str:
    """“3 2026-01-02T03:04:05Z Ada: infringes, openmoji-1 of 0a1b2c3d… — reason”."""
    about = f"{decision.match} of " if decision.match else ""
    said = f"withdraws {decision.withdraws}" if decision.verdict == WITHDRAWN else decision.verdict
    said += f", {about}{decision.picture[:8]}…"
    return visible(f"{decision.number:>4} {decision.at} {decision.author}: {said} — {decision.reason}")


def agreement_as_text(agreement: Agreement, found: Sequence[Contradiction]) -> str:
    """How far reviewers agree, and each pair of decisions that contradict each other."""
    alpha = "not defined" if agreement.alpha is None else f"{agreement.alpha:.2f}"
    lines = [
        f"{len(agreement.reviewers)} reviewers; decided by two or more: {agreement.shared}, of these disputed: "
        f"{agreement.disputed}; Krippendorff’s α: {alpha}"
    ]
    for one in found:
        where = "on the very same" if one.same else "on near-duplicates"
        lines += [f"Contradiction {where}:", decision_as_text(one.first), decision_as_text(one.second)]
    return "\n".join(lines)


def _match_with_signals(database: Database, match: FoundMatch) -> list[str]:
    return [_match(match), *(f"     {_signal(one)}" for one in signals_of(database, match.sha256))]


def _signal(signal: Signal) -> str:
    value = " ".join(signal.value.split())[:200]
    return f"{signal.name}: {value} ({signal.read_from}, read {signal.read_at})"


def _match(match: FoundMatch) -> str:
    ranks = f"{match.best_rank}–{match.worst_rank}"
    stands_out = {True: "stands out", False: "", None: "not known"}[match.stands_out]
    found = f"{match.rank:>4} {match.example_id:24} {match.score:>8.1f} {ranks:>8} {stands_out:10}"
    return f"{found} {match.caption} ({match.creator}, {match.licence})"
