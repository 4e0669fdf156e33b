"""The null of an index for a method that holds sizes alone against it: by products, in place of sweeps.

The size of the prediction at the noisiest draws is almost linear in a small move of the weights, so its change under a
null picture's move is the product of that move with the image's gradient. One backward for each image gives its changes
under all null pictures, and its sketch (build_sketch.py) at the same time. What each null picture is answered with then
are the highest scores that verdicts need; it is held against the other ones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from ..files.atomic import write_json
from ..files.identity import digest_of
from ..files.rows import RowCache
from ..gradients.whitening import Whitening, size_gradients
from ..index.folder import writing_alone
from ..index.null_file import MAKING, SCORES, SETTINGS, NullSizes
from ..index.sketch_file import INFO, SKETCHES, SketchInfo, write_sketches
from ..index.store import Index
from ..methods.steady import Steady
from ..scoring.steady import standardised_at
from ..sweep.executors.threads import measured_by_batch
from ..types import LatentBatch, Query
from .null_pictures import NullPictures
from .paid import Paid
from .shortlist import Effort
from .training_set import batches_of

if TYPE_CHECKING:
    from torch import Tensor

    from .attributor import Attributor

OnProgress = Callable[[str, int, int], None]  # of a stage, what is done, and what there is to do
STEPS, GRADIENTS, ANSWERS = "null pictures: steps", "gradients of sizes", "null pictures: answers"
MOVES = 2**31  # bytes of null pictures' moves that are held: for one pass over the images, and until answers take them
BATCH = 8  # gradients held at once by each thread
ANSWERING = Effort(first=1, raced=100, raced_sample=32)  # of null pictures, of which only the highest score is sought


def measure_size_null(
    attributor: Attributor,
    method: Steady,
    nulls: NullPictures,
    on_progress: OnProgress = lambda stage, done, total: None,
    verdicts: bool = True,
    sketch: bool = True,
) -> Index:
    """Put the changes of size under any null pictures into an index, with its sketches.

    With `verdicts` also the highest score under each, with its caption and without a prompt. Resumes where it was
    interrupted, and does nothing where the same null is there; returns the index as it is then.
    """
    index, kept, chosen = attributor.index, attributor.index.null_changes, tuple(nulls.ids)
    there = kept if isinstance(kept, NullSizes) and attributor.is_comparable(kept.settings, method) else None
    whole = there is not None and there.queries == chosen and (there.highest is not None or not verdicts)
    if whole and (index.is_sketched or not sketch):
        return index
    with writing_alone(index.folder):
        return _made(_Making.begin(attributor, method, nulls, sketch, on_progress), verdicts, sketch)


def _made(making: _Making, verdicts: bool, sketch: bool) -> Index:
    """Measure what is missing, and put it into the index's folder."""
    attributor, index, null = making.attributor, making.attributor.index, making.sizes()
    if sketch:
        index = index.without_files(INFO, SKETCHES)  # whole at every moment
        write_sketches(index.folder, making.sketched, making.sketches())
        index = index.with_files(INFO, SKETCHES)
        making = replace(making, attributor=replace(attributor, index=index))  # answers look where sketches say
    if verdicts:
        null = replace(null, highest=making.highest(null, prompted=True), unprompted=making.highest(null, False))
    index = index.without_files(SETTINGS, SCORES)
    null.write(index.folder)
    index = index.with_files(SETTINGS, SCORES)
    shutil.rmtree(index.folder / MAKING)
    return index


@dataclass(frozen=True)
class _Making:
    """What is known of the null so far, in `reference.partial`."""

    attributor: Attributor
    method: Steady
    nulls: NullPictures
    sketched: SketchInfo
    rows: RowCache  # an image's products with the null pictures' moves, and its sketch
    on_progress: OnProgress
    stepped: dict[str, Paid] = field(default_factory=dict)  # states of null pictures with their captions, as they fit

    @classmethod
    def begin(
        cls,
        attributor: Attributor,
        method: Steady,
        nulls: NullPictures,
        sketch: bool,
        on_progress: OnProgress,
    ) -> _Making:
        """Go on with what was begun for the same; what was begun otherwise is thrown away."""
        index, folder = attributor.index, attributor.index.folder / MAKING
        plan = {"of": digest_of([index.measured_fingerprint, attributor.comparable_settings(method), *nulls.ids])}
        kept = folder / "plan.json"
        if not kept.is_file() or json.loads(kept.read_text(encoding="utf-8")) != plan:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            write_json(kept, plan)
        draws = method.size_draws_at(index.info.plan)
        info = SketchInfo(draws, SketchInfo.dimensions if sketch else 0)
        rows = RowCache.open(
            folder / f"gradients-{info.dimensions}.npy", index.info.examples, len(nulls.ids) + info.dimensions
        )
        return cls(attributor, method, nulls, info, rows, on_progress)

    def sizes(self) -> NullSizes:
        """The changes of every image under every null picture with its caption."""
        ids = tuple(self.nulls.ids)
        if not all(self._finished(row) for row in range(len(self.rows.rows))):
            self._measure_products()
        products = torch.from_numpy(self.rows.rows[:, : len(ids)].copy())
        measured = torch.ones_like(products, dtype=torch.bool)
        for column, query_id in enumerate(ids):  # a picture's own row would move so much that others seem to move less
            if query_id in self._index.catalog.numbers:
                measured[self._index.catalog.numbers[query_id], column] = False
        about, deviations = standardised_at(products, measured, None)
        sizes = (about / deviations).clamp(min=0).nan_to_num(nan=0.0).T.contiguous()
        return NullSizes(self.attributor.comparable_settings(self.method), ids, sizes)

    def sketches(self) -> Iterator[Tensor]:
        """Every image's, some at a time."""
        for start in range(0, len(self.rows.rows), 1024):
            yield torch.from_numpy(self.rows.rows[start : start + 1024, len(self.nulls.ids) :].copy())

    def highest(self, null: NullSizes, prompted: bool) -> Tensor:
        """The highest score of any training image under each null picture, held against the other ones."""
        kept = self._index.folder / MAKING / f"highest-{'prompted' if prompted else 'unprompted'}.json"
        found: dict[str, float] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        done = 0 if prompted else len(self.nulls.ids)
        for number, query_id in enumerate(self.nulls.ids):
            self.on_progress(ANSWERS, done + number, 2 * len(self.nulls.ids))
            if query_id not in found:
                found[query_id] = self._highest(null.without(query_id), query_id, prompted)
                write_json(kept, found)
        self.on_progress(ANSWERS, done + len(self.nulls.ids), 2 * len(self.nulls.ids))
        return torch.tensor([found[query_id] for query_id in self.nulls.ids])

    def _highest(self, others: NullSizes, query_id: str, prompted: bool) -> float:
        index = self._index.part(i for i in self._index.catalog.by_id if i != query_id)
        journal = index.folder / MAKING / "tasks"
        asked = replace(self.attributor, index=index, held_against=others, journal=journal)
        paid = self.stepped.pop(query_id, None) if prompted else None
        *_, last = asked.follow(self._query(query_id, prompted), self.method, ANSWERING, paid)
        shutil.rmtree(journal, ignore_errors=True)
        return float(last.scores().scores.max())

    def _query(self, query_id: str, prompted: bool) -> Query:
        picture, caption = self.nulls.picture(query_id)
        return self.attributor.query(picture, caption if prompted else "")

    def _measure_products(self) -> None:
        """Fill in what is missing of the rows, with as many moves at a time as memory has room for."""
        weights = sum(p.numel() for p in self.attributor.model.tunable_parameters().values())
        at_once = max(1, MOVES // (4 * weights))
        ids = list(self.nulls.ids)
        groups = [tuple(range(start, min(start + at_once, len(ids)))) for start in range(0, len(ids), at_once)]
        for number, group in enumerate(groups):
            moves = []
            for column in group:
                self.on_progress(STEPS, column, len(ids))
                moves.append(_flat(self._move(ids[column])))
            self.on_progress(STEPS, group[-1] + 1, len(ids))
            self._pass(torch.stack(moves), group, number, len(groups))

    def _move(self, query_id: str) -> Mapping[str, Tensor]:
        paid = Paid(self.attributor.prepare(self._query(query_id, prompted=True), self.method))
        if paid.bytes * len(self.nulls.ids) <= MOVES:
            self.stepped[query_id] = paid
        assert paid.state is not None
        return next(r.deltas for r in paid.state.rounds if r.quantity == "size")

    def _pass(self, moves: Tensor, columns: tuple[int, ...], number: int, passes: int) -> None:
        """One walk over the images: their products with these moves, and in the first one their sketches."""
        index, model, info, nulls = self._index, self.attributor.model, self.sketched, len(self.nulls.ids)
        plan, total = index.info.plan.part(info.draws), index.info.examples
        whitening = Whitening(index.fisher(), info.damping, info.dimensions, info.seed) if info.dimensions else None
        whitening = whitening if number == 0 else None

        def measure(batch: LatentBatch) -> Tensor:
            draws = plan.draws(batch.example_ids, batch.latents.shape[1:], model.spec.device)
            gradients, sketches = [], []
            for gradient in size_gradients(model, batch, draws):
                gradients.append(_flat(gradient))
                if whitening is not None:
                    sketches.append(whitening.of_gradient(gradient))
            products = torch.stack(gradients) @ moves.T
            return torch.cat([products, torch.stack(sketches)], dim=1) if sketches else products

        left = [i for i in index.catalog.by_id if not self._finished(index.catalog.numbers[i], columns, number == 0)]
        done = total - len(left)
        if not left:
            return
        batches = batches_of(index, tuple(left))
        for batch, values in measured_by_batch(model, batches, len(info.draws), measure, BATCH * len(info.draws)):
            for example_id, row in zip(batch.example_ids, values, strict=True):
                at = self.rows.rows[index.catalog.numbers[example_id]]
                at[list(columns)] = row[: len(columns)]
                if whitening is not None:
                    at[nulls:] = row[len(columns) :]
            done += len(batch.example_ids)
            self.on_progress(GRADIENTS, number * total + done, passes * total)

    def _finished(self, row: int, columns: tuple[int, ...] | None = None, sketched: bool = True) -> bool:
        """Whether an image's products with these moves, by default with all, and its sketch are there."""
        import numpy as np

        found, nulls = self.rows.rows[row], len(self.nulls.ids)
        wanted = found[:nulls] if columns is None else found[list(columns)]
        return bool(np.isfinite(wanted).all() and (not sketched or np.isfinite(found[nulls:]).all()))

    @property
    def _index(self) -> Index:
        return self.attributor.index


def _flat(by_weight: Mapping[str, Tensor]) -> Tensor:
    """All weights in a row, `[w]` in float32 on the CPU, in the order of their names."""
    return torch.cat([by_weight[name].flatten().float().cpu() for name in sorted(by_weight)])
