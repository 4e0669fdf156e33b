"""What was measured for a question already, so that another answer to it pays for the rest alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from ..methods.protocol import QueryState
from ..sweep.rounds import Measured, Round, RoundKey

MOST_KEPT = 2**30  # bytes of moved weights and figures


@dataclass
class Paid:
    """The state and the figures of one question: of one query, method and index.

    Grows while the question is answered, whatever becomes of that answer. Which images were measured together differs
    from a sweep in one go, and so may the last bits of their figures.
    """

    state: QueryState | None = None  # None until the method has prepared it
    _found: list[Measured] = field(default_factory=list)
    _known: dict[RoundKey, set[str]] = field(default_factory=dict)  # example ids by round

    def add(self, measured: Measured) -> None:
        """Take in what a task found; what is known of some of its images stays as it is."""
        known = self._known.setdefault(measured.key, set())
        new = rows_of(measured, [i for i, example_id in enumerate(measured.example_ids) if example_id not in known])
        known.update(new.example_ids)
        self._found.append(new)

    def unknown(self, one_round: Round, example_ids: Iterable[str]) -> tuple[str, ...]:
        """Those of these images that a round still has to measure, in their order."""
        known = self._known.get(one_round.key, set())
        return tuple(example_id for example_id in example_ids if example_id not in known)

    def rest_of(self, one_round: Round, visited: Sequence[str]) -> Round | None:
        """What is left of a round of a sweep that visits these images; None where nothing is."""
        wanted = visited if one_round.example_ids is None else one_round.example_ids
        left = self.unknown(one_round, wanted)
        return one_round if len(left) == len(wanted) else replace(one_round, example_ids=left) if left else None

    def of(self, example_ids: Collection[str]) -> tuple[Measured, ...]:
        """All that is known of these images."""
        wanted = frozenset(example_ids)
        parts = (rows_of(m, [i for i, one in enumerate(m.example_ids) if one in wanted]) for m in self._found)
        return tuple(part for part in parts if part.example_ids)

    @property
    def bytes(self) -> int:
        """What it takes up, without what the state holds beside moved weights."""
        moved = {id(delta): delta for r in (self.state.rounds if self.state else ()) for delta in r.deltas.values()}
        return sum(tensor.nbytes for tensor in (*moved.values(), *(m.values for m in self._found)))


class PaidQuestions:
    """What was paid for the questions that were asked last, as far as it takes up at most `most` bytes together."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._by_key: OrderedDict[str, Paid] = OrderedDict()

    def of(self, key: str) -> Paid:
        """What was paid for the question of this key, which is now the last that was asked; it is always kept."""
        paid = self._by_key.setdefault(key, Paid())
        self._by_key.move_to_end(key)
        while len(self._by_key) > 1 and sum(paid.bytes for paid in self._by_key.values()) > self._most:
            self._by_key.popitem(last=False)
        return paid


def rows_of(measured: Measured, rows: list[int]) -> Measured:
    """What was found of the images in these rows."""
    if len(rows) == len(measured.example_ids):
        return measured
    ids = tuple(measured.example_ids[row] for row in rows)
    return Measured(measured.quantity, measured.columns, ids, measured.values[rows])
