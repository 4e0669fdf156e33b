"""Decisions as links of a hash chain: none can be changed, removed or moved without breaking what follows.

The hash of a decision is the SHA-256 of its fields and of the hash before it, as canonical JSON (RFC 8785). The first
one follows the SHA-256 of the case: its name and when it began.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from ..errors import DamagedAsset
from ..files.identity import canonical

Verdict = Literal["infringes", "licensed", "unsure", "no match", "withdrawn"]
VERDICTS: tuple[Verdict, ...] = ("infringes", "licensed", "unsure", "no match")  # that can be decided
WITHDRAWN: Verdict = "withdrawn"


@dataclass(frozen=True)
class Decision:
    """What one person decided of one match, or of a picture as a whole, and which answer they had before them."""

    number: int  # within the case, from 1
    picture: str  # SHA-256 of its original bytes
    match: str | None  # id of the training image; None for the picture as a whole
    verdict: Verdict
    withdraws: int | None  # the number of the decision that is taken back
    reason: str
    author: str
    at: str  # ISO 8601, UTC
    result: str  # id of the answer that was decided on; empty where there was none yet
    record: str  # SHA-256 of its record.json
    former: str  # hash of the decision before it
    hash: str

    @property
    def subject(self) -> tuple[str, str | None]:
        """What was decided on: a picture, or a match of it."""
        return self.picture, self.match

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


FIELDS = frozenset(field.name for field in fields(Decision))


def first_link(case: str, created_at: str) -> str:
    """What the first decision of a case follows."""
    return hashlib.sha256(canonical({"case": case, "created_at": created_at})).hexdigest()


def hash_of(decision: dict[str, Any]) -> str:
    """The hash that a decision with these fields has; `hash` itself is left out."""
    hashed = {name: value for name, value in decision.items() if name != "hash"}
    return hashlib.sha256(canonical(hashed)).hexdigest()


def linked(former: str, fields: Mapping[str, Any]) -> Decision:
    """The decision with these fields that follows the one with the hash `former`."""
    unhashed = {**fields, "former": former}
    return Decision(**unhashed, hash=hash_of(unhashed))


def decision_from(fields: object) -> Decision:
    """The decision that JSON holds; raises DamagedAsset where it is none."""
    if not isinstance(fields, dict) or fields.keys() != FIELDS:
        raise DamagedAsset("A line of the decisions is no decision: its fields are others.")
    return Decision(**fields)


def head_of(case: str, created_at: str, decisions: Iterable[Decision]) -> str:
    """The hash of the last decision, which stands for all of them.

    Raises DamagedAsset naming the first decision that is not as it was made, or does not follow the one before it.
    """
    head = first_link(case, created_at)
    for number, decision in enumerate(decisions, 1):
        if decision.number != number:
            raise DamagedAsset(
                f"The decisions of “{case}” jump from {number - 1} to {decision.number}: one is missing."
            )
        if decision.former != head:
            raise DamagedAsset(f"Decision {number} of “{case}” does not follow the one before it.")
        if decision.hash != hash_of(decision.as_json()):
            raise DamagedAsset(f"Decision {number} of “{case}” is not as it was made.")
        head = decision.hash
    return head


def standing(decisions: Iterable[Decision]) -> dict[tuple[str, str | None, str], Decision]:
    """The last decision of each author on each subject, by (picture, match, author); none that was withdrawn."""
    last = {(*decision.subject, decision.author): decision for decision in decisions}
    return {key: decision for key, decision in last.items() if decision.verdict != WITHDRAWN}
