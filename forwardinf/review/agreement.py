"""How far reviewers agree, and where decisions contradict each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from .chain import Decision, standing

DEFINITE = ("infringes", "licensed", "no match")  # verdicts that exclude each other
NEAR = 6  # bits of 64 in which the perceptual hashes of near-duplicates differ at most


@dataclass(frozen=True)
class Agreement:
    """Of all reviewers, over what at least two of them have decided."""

    reviewers: tuple[str, ...]
    shared: int  # pictures and matches that at least two have decided
    disputed: int  # of these, how many not all the same
    alpha: float | None  # Krippendorff's, nominal; None where there is nothing to disagree on


@dataclass(frozen=True)
class Contradiction:
    """Two decisions that stand and exclude each other, on the same or on nearly the same pictures."""

    first: Decision
    second: Decision
    same: bool  # whether both are on the very same picture (and match)


def agreement_of(decisions: Iterable[Decision]) -> Agreement:
    """Krippendorff's alpha of the decisions that stand (Krippendorff 2004, ch. 11; nominal, data may be missing)."""
    stand = standing(decisions).values()
    by_subject: dict[str, dict[str, str]] = {}
    for one in stand:
        by_subject.setdefault(repr(one.subject), {})[one.author] = one.verdict
    shared = {subject: said for subject, said in by_subject.items() if len(said) > 1}
    reviewers = tuple(sorted({author for said in by_subject.values() for author in said}))
    disputed = sum(len(set(said.values())) > 1 for said in shared.values())
    rows = [(author, subject, verdict) for subject, said in shared.items() for author, verdict in said.items()]
    varied = len({verdict for _, _, verdict in rows}) > 1
    return Agreement(reviewers, len(shared), disputed, _alpha(rows) if varied else None)


def _alpha(rows: list[tuple[str, str, str]]) -> float:
    """Krippendorff's alpha of (author, subject, verdict)."""
    from nltk.metrics.agreement import AnnotationTask  # takes a second to import

    return float(AnnotationTask(rows).alpha())


def contradictions(decisions: Iterable[Decision], phashes: Mapping[str, str]) -> list[Contradiction]:
    """Pairs of definite decisions that differ though they are on near-duplicates; `phashes` by SHA-256 and by match id.

    Pictures and matches are near-duplicates where their perceptual hashes differ in at most `NEAR` bits. A decision on
    a match is held only against those on matches, one on a picture only against those on pictures.
    """
    definite = [one for one in standing(decisions).values() if one.verdict in DEFINITE]
    definite.sort(key=lambda one: one.number)
    return [
        Contradiction(first, second, first.subject == second.subject)
        for first, second in combinations(definite, 2)
        if first.verdict != second.verdict and _alike(first, second, phashes)
    ]


def labelled(decision: Decision) -> str:
    """“Ada: infringes (openmoji-1)”."""
    return f"{decision.author}: {decision.verdict}" + (f" ({decision.match})" if decision.match else "")


def _alike(first: Decision, second: Decision, phashes: Mapping[str, str]) -> bool:
    if not _near(first.picture, second.picture, phashes):
        return False
    if first.match is None or second.match is None:
        return first.match is second.match
    return _near(first.match, second.match, phashes)


def _near(one: str, other: str, phashes: Mapping[str, str]) -> bool:
    if one == other:
        return True
    mine, theirs = phashes.get(one), phashes.get(other)
    return bool(mine and theirs) and (int(mine or "0", 16) ^ int(theirs or "0", 16)).bit_count() <= NEAR
