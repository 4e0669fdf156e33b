"""Few images at many draws: those that cannot reach the first any more are not measured again.

A method whose rounds are nested (methods/steady.py) measures its losses in heats. Likely images, the most similar ones,
those with words of the prompt and a random sample of the rest are measured at the draws of the first heat. What lies
behind the first images by more than its standard error allows is dropped, and what is left is measured at the draws of
the next one; its sizes too, from the second on. The sample stays to the end, to tell what is usual at every draw.

Successive elimination on shared noise, as Clark & Jaini 2023 (arXiv 2303.15233) have it for classes.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from ..index.store import Index
from ..methods.protocol import QueryState
from ..methods.steady import SIZED, Steady
from ..scoring.steady import EXPECTED
from ..sweep.rounds import Measured, Round
from ..sweep.table import Table
from ..types import InfluenceScores
from .foresight import ORDERED, SizeChanges
from .paid import Paid, rows_of
from .progress import AttributionProgress
from .shortlist import Effort, overlooked, sample_of, shares_of
from .stages import OUT_OF_TIME, held
from .tables import table_of

if TYPE_CHECKING:
    from torch import Tensor

    from .attributor import Attributor

RACED = "all that could still reach the first {first} were weighed at every draw"
BEHIND = 1.5  # standard errors
KEPT = 2  # times the first images that are never dropped


@dataclass(frozen=True)
class Race:
    """Which training images are measured at which draws, as far as that is known."""

    likely: tuple[str, ...]  # most likely first
    others: tuple[str, ...]  # similar images, and images with words of the prompt
    sample: tuple[str, ...]  # at even steps along the order of all other training images
    foreseen: dict[str, float]  # the change of size that is foreseen for each of these
    beyond: dict[str, float]  # what it is foreseen to add to their scores
    population: Tensor  # [p], foreseen for all training images, or for a random sample of them
    trained: int  # how many images the model was trained on
    effort: Effort
    rounds: tuple[tuple[Round, ...], ...]  # of each heat
    heats: tuple[tuple[str, ...], ...] = field(default=())  # the images of each heat that is whole

    @cached_property
    def entrants(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.likely, *self.others, *self.sample]))

    def table(self, index: Index, state: QueryState, results: tuple[Measured, ...], stages: int) -> Table:
        """What was measured in so many heats, of all images that an index visits; and likeness, whenever it was."""
        run = {r.key: heat for rounds, heat in zip(self.rounds, self.heats[:stages], strict=False) for r in rounds}
        raced = {r.key for rounds in self.rounds for r in rounds}
        within = {key: frozenset(heat) for key, heat in run.items()}
        known = []
        for m in results:
            if m.key not in raced:
                known.append(m)
            elif rows := [i for i, one in enumerate(m.example_ids) if one in within.get(m.key, ())]:
                known.append(rows_of(m, rows))
        row = {example_id: i for i, example_id in enumerate(index.visited)}
        return table_of(index, state, tuple(known), lambda r: self._stands_for(row, run.get(r.key)))

    def _stands_for(self, row: Mapping[str, int], heat: Sequence[str] | None) -> Tensor:
        """Of how many training images each is an example in a heat, `[n]`: 0 outside it, 1 for what all have."""
        if heat is None:
            return torch.ones(len(row))
        shares = torch.zeros(len(row))
        shares[[row[i] for i in heat]] = shares_of(
            heat, self.is_sampled(heat), self.foreseen, self.population, self.trained
        )
        return shares

    def is_sampled(self, example_ids: Iterable[str]) -> Tensor:
        """Which of these images stand for others, `[b]` of bool."""
        sampled = set(self.sample)
        return torch.tensor([example_id in sampled for example_id in example_ids], dtype=torch.bool)

    def left(self, scores: InfluenceScores) -> tuple[str, ...]:
        """The images of the next heat: the sample, and what may still reach the first by scores of the last heat.

        As two pairs of draws say little of a variance, an image's is averaged with the median of the first ones'.
        """
        position, first = {example_id: i for i, example_id in enumerate(scores.example_ids)}, self.effort.first
        sampled = set(self.sample)
        ran = [i for i in self.heats[-1] if i not in sampled]
        if len(ran) <= KEPT * first:
            return self.heats[-1]
        rows = [position[i] for i in ran]
        foreseen = [self.beyond[i] if len(self.heats) <= SIZED else 0.0 for i in ran]
        reached, variances = scores.scores[rows] + torch.tensor(foreseen), scores.standard_errors[rows].square()
        order = reached.argsort(descending=True, stable=True)
        usual = variances[order[: KEPT * first]].nanmedian()
        allowed = BEHIND * ((variances + usual) / 2).sqrt().nan_to_num(nan=float("inf"))
        stays = reached + allowed >= reached[order[first - 1]]
        stays[order[: KEPT * first]] = True
        kept = {example_id for example_id, stay in zip(ran, stays.tolist(), strict=True) if stay} | sampled
        return tuple(i for i in self.heats[-1] if i in kept)

    def overlooked(self, scores: InfluenceScores, stages: int) -> float:
        """How many of the images that were not weighed are expected to belong among the first."""
        return overlooked(scores, self.is_sampled(scores.example_ids), self.trained, self.effort.first)


def begun(
    attributor: Attributor,
    state: QueryState,
    method: Steady,
    foresight: SizeChanges,
    others: Sequence[str],
    paid: Paid,
    effort: Effort,
) -> Race:
    """A race in which no heat was run yet; likeness, which takes no forward, is measured of every image.

    Ordered by w (0.35 + 0.1 z) + max(0, z − 2)²: the score of equation (5) of scoring/steady.py with the size that is
    foreseen, and with the mean of the errors that images with such a size had on the lab's choosing part.
    """
    index = attributor.index
    weights = _weights(attributor, state, method, paid)
    rows = foresight.candidates()[0]
    if weights is not None:
        rows = torch.cat([rows, weights.argsort(descending=True, stable=True)[:ORDERED]]).unique()
    trained = index.trained_mask[rows]
    rows = rows[trained]
    ids = [index.catalog.images[row].id for row in rows.tolist()]
    null = None if attributor.null(method) is None else attributor.null_changes(method)
    z = foresight.z_scores(rows, foresight.changes(ids), null)
    beyond = (z - EXPECTED).clamp(min=0).square()
    value = (0.35 + 0.1 * z) * (1 if weights is None else weights[rows]) + beyond
    order = [ids[i] for i in value.argsort(descending=True, stable=True).tolist()]
    likely, others = tuple(order[: effort.raced]), tuple(others)
    chosen = {*likely, *others}
    rest = [i for i in dict.fromkeys([*order, *sorted(index.trained)]) if i not in chosen]
    sample = sample_of(rest, effort.raced_sample)
    entrants = tuple(dict.fromkeys([*likely, *others, *sample]))
    foreseen = dict(zip(entrants, foresight.changes(entrants).tolist(), strict=True))
    by_id = dict(zip(ids, beyond.tolist(), strict=True))
    added = {example_id: by_id.get(example_id, 0.0) for example_id in entrants}
    population, count = foresight.population, len(index.trained)
    return Race(likely, others, sample, foreseen, added, population, count, effort, heats_of(state.rounds))


def heats_of(rounds: Sequence[Round]) -> tuple[tuple[Round, ...], ...]:
    """A round of losses in each heat, and that of sizes in the second, or the only one."""
    heats = [[r] for r in rounds if r.quantity == "loss"]
    heats[min(SIZED, len(heats) - 1)].extend(r for r in rounds if r.quantity == "size")
    return tuple(map(tuple, heats))


def raced(
    attributor: Attributor, state: QueryState, method: Steady, race: Race, paid: Paid, began: float
) -> Generator[AttributionProgress, None, None]:
    """The scores after each heat, and how far it is in between; the first progress has none.

    What is measured is added to what is `paid`. `began` is when the question was asked, by `time.perf_counter`, from
    which the effort's time limit counts.
    """
    index, pace = attributor.index, _Pace(race)
    now = AttributionProgress(
        **pace.now(), method=method, state=state, results=(), index=index, null=attributor.null(method), shortlist=race
    )
    yield now
    executor = attributor.executor or held(attributor, state, race.entrants, paid)
    heat = race.entrants
    for number, rounds in enumerate(race.rounds, 1):
        pace.begins(rounds, heat, paid)
        sweeper = replace(attributor, index=index.part(heat), executor=executor)
        with closing(sweeper.run(sweeper.jobs(state, method, paid, rounds))) as sweep:
            for measured in sweep:
                paid.add(measured)
                pace.pay(measured)
                yield replace(now, **pace.now())
        race = replace(race, heats=(*race.heats, heat))
        now = replace(now, **pace.now(), results=paid.of(index.visited), shortlist=race, stages=number)
        if number == len(race.rounds):
            ended = RACED.format(first=race.effort.first)
        else:
            seconds = race.effort.seconds
            ended = OUT_OF_TIME if seconds is not None and time.perf_counter() - began >= seconds else ""
        if ended:
            yield replace(now, done=now.total, ended=ended)
            return
        heat = race.left(now.scores())
        yield now


def _weights(attributor: Attributor, state: QueryState, method: Steady, paid: Paid) -> Tensor | None:
    """The weights by likeness of all images of the catalog, `[n]`; None for a method without."""
    rounds = [r for r in state.rounds if r.quantity == "likeness"]
    if not rounds:
        return None
    for measured in attributor.run(attributor.jobs(state, method, paid, rounds)):
        paid.add(measured)
    index = attributor.index
    found = method.weights(table_of(index, state, paid.of(index.visited)))
    weights = torch.zeros(index.info.examples)
    weights[[index.catalog.numbers[i] for i in index.visited]] = found
    return weights


class _Pace:
    """How far a race is, by forwards; those of heats to come are guessed."""

    def __init__(self, race: Race) -> None:
        self._race, self._start = race, time.perf_counter()
        self._expected = [self._guess(rounds) for rounds in race.rounds]
        self._expected[0] = len(race.entrants) * _draws(race.rounds[0])
        self._heat, self._done, self._measured, self._shown = 0, 0, 0, 0

    def begins(self, rounds: Sequence[Round], heat: Sequence[str], paid: Paid) -> None:
        """A heat over these images, of which some may be `paid`."""
        self._expected[self._heat] = len(heat) * _draws(rounds)
        self._heat += 1
        self._done = sum(self._expected[: self._heat])
        self._done -= sum(len(r.draws) * len(paid.unknown(r, heat)) for r in rounds)

    def pay(self, measured: Measured) -> None:
        self._done += measured.values.shape[:2].numel()
        self._measured += measured.values.shape[:2].numel()

    def now(self) -> dict[str, Any]:
        """The first fields of an AttributionProgress."""
        total, everything = len(self._race.entrants), sum(self._expected)
        seconds = max(time.perf_counter() - self._start, 1e-9)
        per_forward = seconds / self._measured if self._measured else float("inf")
        left = (everything - self._done) * per_forward if self._done < everything else 0.0
        self._shown = max(self._shown, min(total - 1, round(total * self._done / everything)))
        rate = self._measured / everything * total / seconds
        return {"done": self._shown, "total": total, "rate": rate, "seconds_left": left}

    def _guess(self, rounds: Sequence[Round]) -> int:
        kept = len(self._race.sample) + 2 * KEPT * self._race.effort.first
        return min(kept, len(self._race.entrants)) * _draws(rounds)


def _draws(rounds: Sequence[Round]) -> int:
    return sum(len(r.draws) for r in rounds)
