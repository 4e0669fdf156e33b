"""What an index will cost, before any of it is paid: from building the index of a few of its images."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..draws import DrawPlan
from ..errors import StopRequested
from ..index.build import FISHER_STAGE, IMAGES, KRONECKER_STAGE, UNADAPTED_STAGE, BuildPlan, build_index
from ..index.curvature_file import FISHER, KRONECKER
from ..index.sketch_file import SketchInfo
from ..index.unadapted_file import UNADAPTED
from ..methods.forward_inf import ForwardInf
from ..methods.mirror import TRIES
from ..methods.steady import Steady
from ..stopping import heeding
from .attributor import Attributor
from .build_sketch import build_sketch
from .planning import method_for
from .race import KEPT
from .size_null import ANSWERING, MOVES

if TYPE_CHECKING:
    from ..examples.catalog import Catalog
    from ..models.protocol import PictureModel

SECONDS = 30.0  # that measuring takes at most
COUNTS = (2, 8, 32, 128)  # images of the indexes that are built to measure, as long as there is time
SKETCHES, NULL = "sketches", "null pictures"
STEPS, SWEEP = "steps", "sweep"  # of a single query


@dataclass(frozen=True)
class StageCost:
    """One stage of a build."""

    name: str
    forwards: int
    backwards: int
    disk: int  # bytes
    seconds: float


@dataclass(frozen=True)
class BuildCost:
    """What building an index takes on this machine."""

    images: int
    stages: tuple[StageCost, ...]
    measured_on: int  # images
    at_least: bool  # whether not even the smallest index could be built in time, so that seconds are a lower bound

    @property
    def total(self) -> StageCost:
        """All stages together."""
        figures = ((s.forwards, s.backwards, s.disk, s.seconds) for s in self.stages)
        return StageCost("all", *map(sum, zip(*figures, strict=True)))


@dataclass
class _Trial:
    """What the index of a few images took."""

    images: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # by stage
    disk: Counter[str] = field(default_factory=Counter)  # bytes by stage
    weights: int = 0  # that a query may move

    def clocked(self, now: Callable[[], float]) -> Callable[[str, int, int], None]:
        """An on_progress that gives each stage the time from its first report to its last."""
        last: dict[str, float] = {}

        def report(stage: str, done: int, total: int) -> None:
            at = now()
            self.seconds[stage] += at - last.get(stage, at)
            last[stage] = at

        return report


def cost_of(
    model: PictureModel,
    source: Catalog,
    plan: BuildPlan,
    sketch: bool,
    null_pictures: int,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> BuildCost:
    """What `build_index`, `build_sketch` and `build_null` will take for the images of `source`.

    Measured for at most so many `seconds`, on indexes of a few images in a temporary folder; raises what those raise.
    Forwards of the steps on null pictures are counted as if each line search were as long as it may be.
    """
    images = [image for image in source.images if image.split in plan.splits]
    end, best, tried = clock() + seconds, _Trial(), _Trial()
    for count in COUNTS:
        growth = count / best.images if best.images else 0
        if growth * sum(best.seconds.values()) > end - clock() or best.images == len(images):
            break
        tried = _Trial(min(count, len(images)))
        with suppress(StopRequested), heeding(lambda: clock() >= end):
            _try(model, replace(source, images=_some(images, tried.images)), plan, sketch, tried, clock)
            best = tried
    trial = best if best.images else tried
    return BuildCost(len(images), _stages(images, plan, sketch, null_pictures, trial), trial.images, not best.images)


def _some(images: list, count: int) -> tuple:
    """Random ones, at least one that the model was trained on."""
    chosen = random.Random(0).sample(images, count)
    if not any(image.split == "train" for image in chosen):
        chosen[0] = next((image for image in images if image.split == "train"), chosen[0])
    return tuple(chosen)


def _try(
    model: PictureModel, few: Catalog, plan: BuildPlan, sketch: bool, trial: _Trial, clock: Callable[[], float]
) -> None:
    """Build the index of a few images, and run one of them as a query."""
    with TemporaryDirectory() as folder:
        smaller = replace(plan, fisher_images=1, shard_size=trial.images)
        report = trial.clocked(clock)
        index = build_index(model, few, Path(folder) / "index", smaller, report)
        fixed = {FISHER: FISHER_STAGE, KRONECKER: KRONECKER_STAGE, UNADAPTED: UNADAPTED_STAGE}
        for name in index.manifest.files:
            trial.disk[fixed.get(name, IMAGES)] += (index.folder / name).stat().st_size
        if sketch:
            report(SKETCHES, 0, trial.images)
            by = method_for(plan.method)
            index = build_sketch(model, index, on_progress=lambda done, total: report(SKETCHES, done, total), method=by)
        trial.weights = sum(weights.numel() for weights in model.tunable_parameters().values())
        attributor, image = Attributor(model, index), few.images[0]
        query, began = attributor.query(few.picture(image), image.caption), clock()
        state, stepped = attributor.prepare(query), clock()
        for _ in attributor.sweep(state):
            pass
        trial.seconds[STEPS], trial.seconds[SWEEP] = stepped - began, clock() - stepped


def _stages(images: list, plan: BuildPlan, sketch: bool, null_pictures: int, trial: _Trial) -> tuple[StageCost, ...]:
    count, trained = len(images), sum(image.split == "train" for image in images)
    share = count / max(1, trial.images)
    draws, gradients = plan.draws, min(plan.fisher_images, trained) * plan.fisher_draws
    each = {name: trial.seconds[name] for name in (IMAGES, FISHER_STAGE, KRONECKER_STAGE, SKETCHES)}
    stages = [
        StageCost(IMAGES, count * draws, 0, round(trial.disk[IMAGES] * share), each[IMAGES] * share),
        StageCost(FISHER_STAGE, gradients, gradients, trial.disk[FISHER_STAGE],
                  each[FISHER_STAGE] / plan.fisher_draws * gradients),
    ]  # fmt: skip
    if plan.kronecker:
        took = each[KRONECKER_STAGE] / plan.fisher_draws * gradients
        stages.append(StageCost(KRONECKER_STAGE, 2 * gradients, 2 * gradients, trial.disk[KRONECKER_STAGE], took))
    if disk := trial.disk[UNADAPTED_STAGE]:
        took = trial.seconds[UNADAPTED_STAGE] * share
        stages.append(StageCost(UNADAPTED_STAGE, count * draws, 0, round(disk * share), took))
    by = method_for(plan.method)
    at = len(by.size_draws_at(_plan(plan)))
    pictures = min(null_pictures, -(-(count - trained) // 2))  # the half that is least like any training image
    if sketch or (pictures and isinstance(by, Steady)):
        kept = 2 * SketchInfo.dimensions * sketch
        stages.append(StageCost(SKETCHES, count * at, count * at, count * kept, each[SKETCHES] * share))
    if pictures and isinstance(by, Steady):
        stages.append(_size_null(by, plan, (count, trained, pictures), sketch, trial))
    elif pictures:
        stages.append(_null(by, plan, count, pictures, trial))
    return tuple(stages)


def _null(by: ForwardInf, plan: BuildPlan, count: int, pictures: int, trial: _Trial) -> StageCost:
    """Pictures run twice each, with and without their captions: steps on it, then a sweep over all other images."""
    steps = _Steps.of(by, plan)
    sweep = trial.seconds[SWEEP] * (count - 1) / max(1, trial.images)
    runs, columns = 2 * pictures, plan.draws + 1
    return StageCost(
        NULL,
        runs * ((count - 1) * plan.draws + steps.forwards),
        runs * steps.backwards,
        4 * pictures * count * columns,
        runs * (sweep + trial.seconds[STEPS]),
    )


def _size_null(by: Steady, plan: BuildPlan, counts: tuple[int, int, int], sketch: bool, trial: _Trial) -> StageCost:
    """Steps on pictures for products and for two answers each, of which the first takes those that memory held.

    Answers weigh a few images.
    """
    count, trained, pictures = counts
    times = 2 if 2 * 4 * trial.weights * pictures <= MOVES else 3  # moves for losses and for sizes in float32
    steps, rounds = _Steps.of(by, plan), by.heats_at(_plan(plan))
    entrants = ANSWERING.raced + ANSWERING.similar + ANSWERING.worded + ANSWERING.raced_sample
    left = ANSWERING.raced_sample + 2 * KEPT * ANSWERING.first  # of which a heat after the first is guessed to be
    if sketch and entrants < trained:
        answer = sum(draws * (entrants if number == 0 else left) for number, draws in enumerate(rounds))
    else:
        answer = (count - 1) * sum(rounds)
    each = trial.seconds[SWEEP] / max(1, trial.images * sum(rounds))
    return StageCost(
        NULL,
        2 * pictures * answer + times * pictures * steps.forwards,
        times * pictures * steps.backwards,
        4 * pictures * count,
        2 * pictures * answer * each + times * pictures * trial.seconds[STEPS],
    )


@dataclass(frozen=True)
class _Steps:
    """The mirrored steps on one picture, with a line search as long as it may be."""

    forwards: int
    backwards: int

    @classmethod
    def of(cls, by: ForwardInf, plan: BuildPlan) -> _Steps:
        moves = 2 if by.size_draws_at(_plan(plan)) else 1
        gradients = moves * by.steps * (plan.draws + by.own_draws)
        return cls(moves * plan.draws * (1 + by.steps * TRIES) + gradients, gradients)


def _plan(plan: BuildPlan) -> DrawPlan:
    return DrawPlan(plan.seed, plan.draws, shared=True, antithetic=plan.antithetic)
