"""An answer that weighs the most likely images first, and ends when the first of them are decided."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from ..methods.protocol import AttributionMethod, QueryState
from ..sweep.executors.threads import Batches, ThreadExecutor
from .paid import Paid
from .progress import AttributionProgress, Pace
from .shortlist import Shortlist
from .training_set import Held

if TYPE_CHECKING:
    from .attributor import Attributor

LATENTS = 64  # in a batch on a CPU: few, so that the images of a stage occupy all threads to the end
DECIDED = "the first {first} did not change any more"
OUT_OF_TIME = "the time was up"
ALL_LIKELY = "all likely images were weighed"


def followed_by_stages(
    attributor: Attributor, state: QueryState, method: AttributionMethod, found: Shortlist, paid: Paid, began: float
) -> Generator[AttributionProgress, None, None]:
    """The scores after each stage of a shortlist, and how far it is in between.

    Each progress has the scores of the stages that are whole; the first has none. What is measured is added to what is
    `paid`. `began` is when the question was asked, by `time.perf_counter`, from which the effort's time limit counts.
    """
    images = tuple(dict.fromkeys(example_id for stage in found.stages for example_id in stage))
    whole, pace = attributor.index, Pace(state.rounds, len(images), paid.of(images))
    now = AttributionProgress(
        **pace.now(), method=method, state=state, results=(), index=whole, null=attributor.null(method), shortlist=found
    )
    yield now
    executor = attributor.executor or held(attributor, state, images, paid)
    weighed: list[str] = []
    for number, stage in enumerate(found.stages, 1):
        if stage:
            weighed.extend(stage)
            sweeper = replace(attributor, index=whole.part(stage), executor=executor)
            with closing(sweeper.sweep(state, method, paid=paid)) as sweep:
                for measured in sweep:
                    paid.add(measured)
                    pace.pay(measured)
                    yield replace(now, **pace.now())
        now = replace(now, **pace.now(), results=paid.of(weighed), stages=number)
        if ended := _ended(now, found, began):
            now = replace(now, done=len(now.table.example_ids), total=len(now.table.example_ids), ended=ended)
        yield now
        if ended:
            return


def held(attributor: Attributor, state: QueryState, images: tuple[str, ...], paid: Paid) -> ThreadExecutor:
    """Threads of this process, over the examples that are still to be measured, which are read once."""
    unknown = frozenset(chain.from_iterable(paid.unknown(r, images) for r in state.rounds))
    held: Batches = Held(attributor.index.by_shape(unknown)) if unknown else lambda _: []
    latents = LATENTS if attributor.model.spec.device == "cpu" else None
    return ThreadExecutor(attributor.model, held, latents)


def _ended(now: AttributionProgress, found: Shortlist, began: float) -> str:
    """Why no further stage is begun; empty where one is."""
    if found.is_decided(now.scores(), now.stages):
        return DECIDED.format(first=found.effort.first)
    if now.stages == len(found.stages):
        return ALL_LIKELY
    if found.effort.seconds is not None and time.perf_counter() - began >= found.effort.seconds:
        return OUT_OF_TIME
    return ""
