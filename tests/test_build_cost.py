"""What a build says it will take, and what it says while it is under way."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import Counted, tiny_pipeline, write_patches
from forwardinf.attribution import cost
from forwardinf.attribution.attributor import DEFAULT_METHOD, Attributor
from forwardinf.attribution.build_null import build_null
from forwardinf.attribution.build_sketch import build_sketch
from forwardinf.attribution.cost import NULL, SKETCHES, STEPS, SWEEP, BuildCost, StageCost, _stages, _Trial, cost_of
from forwardinf.attribution.planning import plan_for
from forwardinf.cli.telling import Telling, spoken
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import FISHER_STAGE, IMAGES, KRONECKER_STAGE, BuildPlan, build_index
from forwardinf.index.sketch_file import SKETCHES as SKETCH_FILE
from forwardinf.methods.steady import Steady
from forwardinf.models.sd import StableDiffusion
from forwardinf.types import ModelSpec

COUNT, HELD_OUT, DRAWS = 20, 6, 3
PLAN = BuildPlan(draws=DRAWS, fisher_images=5, fisher_draws=2, kronecker=True, shard_size=8)
NULL_PICTURES = 2


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_patches(tmp_path_factory.mktemp("patches"), COUNT)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for row in rows[:HELD_OUT]:
        row["split"] = "held_out"
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def source(folder: Path) -> Catalog:
    return training_images(folder)


@pytest.fixture(scope="module")
def expected(model: StableDiffusion, source: Catalog) -> BuildCost:
    return cost_of(model, source, PLAN, sketch=True, null_pictures=NULL_PICTURES)


def by_name(expected: BuildCost) -> dict[str, StageCost]:
    return {stage.name: stage for stage in expected.stages}


def test_forwards_and_backwards_are_those_of_the_build(
    model, source: Catalog, expected: BuildCost, counted: Counted, tmp_path: Path
):
    stages, told = by_name(expected), list[tuple[str, int, int]]()
    assert list(stages) == [IMAGES, FISHER_STAGE, KRONECKER_STAGE, SKETCHES, NULL]
    counted.latents = 0
    index = build_index(
        model, source, tmp_path / "index", PLAN, lambda *report: told.append((*report, counted.latents))
    )
    at = {stage: forwards for stage, done, total, forwards in told if done == total}
    assert at[IMAGES] == stages[IMAGES].forwards == COUNT * DRAWS
    assert at[FISHER_STAGE] - at[IMAGES] == stages[FISHER_STAGE].forwards == stages[FISHER_STAGE].backwards == 5 * 2
    assert at[KRONECKER_STAGE] - at[FISHER_STAGE] == stages[KRONECKER_STAGE].forwards == 2 * 5 * 2
    counted.latents = 0
    index = build_sketch(model, index)
    assert counted.latents == stages[SKETCHES].forwards == stages[SKETCHES].backwards == COUNT
    counted.latents = 0
    index = build_null(Attributor(model, index), DEFAULT_METHOD, source, NULL_PICTURES)
    sweeps = 2 * NULL_PICTURES * (COUNT - 1) * DRAWS
    backwards = 2 * NULL_PICTURES * 2 * DRAWS
    assert stages[NULL].backwards == backwards
    assert sweeps + backwards < counted.latents <= stages[NULL].forwards + backwards  # a backward has a forward, too
    assert expected.total.forwards == sum(stage.forwards for stage in expected.stages)


def test_disk_is_about_what_the_index_takes(model, source: Catalog, expected: BuildCost, tmp_path: Path):
    index = build_sketch(model, build_index(model, source, tmp_path / "index", PLAN))
    taken = {name: (index.folder / name).stat().st_size for name in index.manifest.files}
    assert by_name(expected)[SKETCHES].disk == pytest.approx(taken[SKETCH_FILE], rel=0.01)
    told = expected.total.disk - by_name(expected)[NULL].disk
    assert told == pytest.approx(sum(taken.values()), rel=0.15)


def test_times_are_measured_and_grow_with_the_images(model, source: Catalog, expected: BuildCost):
    assert all(stage.seconds > 0 for stage in expected.stages)
    assert not expected.at_least
    assert expected.measured_on == COUNT
    trial = _Trial(10, dict.fromkeys((IMAGES, FISHER_STAGE, KRONECKER_STAGE, SKETCHES, STEPS, SWEEP), 2.0))
    few, many = ({stage.name: stage for stage in _stages(source.images * n, PLAN, True, 1, trial)} for n in (1, 3))
    for name in (IMAGES, SKETCHES):
        assert (few[name].seconds, many[name].seconds) == (2 * COUNT / 10, 6 * COUNT / 10)
        assert many[name].forwards == 3 * few[name].forwards
    assert few[FISHER_STAGE].seconds == many[FISHER_STAGE].seconds == 2.0 * PLAN.fisher_images
    assert few[NULL].seconds == 2 * (2.0 + 2.0 * (COUNT - 1) / 10)


def test_measuring_ends_in_time_and_says_that_it_was_not_enough(model, source: Catalog, counted: Counted):
    looked: list[int] = []

    def clock() -> float:
        looked.append(counted.latents)
        return len(looked) / 100

    found = cost_of(model, source, PLAN, True, NULL_PICTURES, seconds=1.0, clock=clock)
    assert found.at_least
    assert len(looked) <= 101 + 3
    assert found.total.forwards == by_name(found)[IMAGES].forwards + sum(s.forwards for s in found.stages[1:])


def test_nothing_stays_of_what_was_measured(model, source: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cost, "TemporaryDirectory", _named(tmp_path / "measured"))
    cost_of(model, source, PLAN, False, 0, seconds=1e6)
    assert not list(tmp_path.iterdir())


def _named(folder: Path) -> type:
    class Named:
        def __enter__(self) -> str:
            folder.mkdir()
            return str(folder)

        def __exit__(self, *_: object) -> None:
            assert (folder / "index" / "manifest.json").is_file()
            shutil.rmtree(folder)

    return Named


# What is told meanwhile


def test_stages_are_told_in_order_and_count_up_to_all(model, source: Catalog, tmp_path: Path):
    told: list[tuple[str, int, int]] = []
    build_index(model, source, tmp_path / "index", PLAN, lambda *report: told.append(report))
    assert list(dict.fromkeys(stage for stage, *_ in told)) == [IMAGES, FISHER_STAGE, KRONECKER_STAGE]
    for name, everything in ((IMAGES, COUNT), (FISHER_STAGE, 5), (KRONECKER_STAGE, 10)):
        done = [d for stage, d, _ in told if stage == name]
        assert done == sorted(done)
        assert (done[0], done[-1]) == (0, everything)
        assert {total for stage, _, total in told if stage == name} == {everything}
    within = [done for stage, done, _ in told if stage == IMAGES and done % PLAN.shard_size]
    assert within  # not only where a shard is whole


def test_lines_come_at_the_ends_of_a_stage_and_now_and_then():
    out, now = io.StringIO(), [0.0]
    tell = Telling(out, lambda: now[0], every=10)
    for done in range(101):
        tell("images", done, 100)
        now[0] += 1
    now[0] = 1000
    for done in range(3):
        tell("Fisher", done, 2)
    tell.close()
    lines = out.getvalue().splitlines()
    assert lines[:3] == [
        "images: 0 of 100",
        "images: 10 of 100 (10%), about 2 min left",
        "images: 20 of 100 (20%), about 80 s left",
    ]
    assert lines[10:] == ["images: 100 of 100 in 2 min", "Fisher: 0 of 2", "Fisher: 2 of 2 in 0 s"]


def test_a_stage_that_goes_on_counts_only_what_is_new():
    out, now = io.StringIO(), [0.0]
    tell = Telling(out, lambda: now[0], every=10)
    tell("images", 50, 100)
    now[0] = 20
    tell("images", 60, 100)
    assert out.getvalue().splitlines()[-1] == "images: 60 of 100 (60%), about 80 s left"


def test_in_a_terminal_there_is_a_bar_and_no_line():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    tell = Telling(out)
    for done in range(3):
        tell("Fisher", done, 2)
    tell.close()
    assert "Fisher:" in out.getvalue()
    assert "of 2" not in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (200000, "2.3 days")],
)
def test_times_are_said_in_a_unit_that_a_person_would_take(seconds: float, said: str):
    assert spoken(seconds) == said


def test_an_index_for_steady_costs_a_third_and_its_null_is_counted_by_answers():
    """16 forwards of base losses, 4 forwards and backwards of sizes, and 58 short answers for 29 null pictures."""
    images = [SimpleNamespace(split="held_out" if n < 161 else "train") for n in range(3226)]
    trial = _Trial(8)
    stages = {s.name: s for s in _stages(images, plan_for(Steady()), True, 29, trial)}
    assert list(stages) == [IMAGES, FISHER_STAGE, SKETCHES, NULL]
    assert stages[IMAGES].forwards == 16 * 3226
    assert stages[SKETCHES].forwards == stages[SKETCHES].backwards == 4 * 3226
    assert stages[NULL].backwards == 2 * 29 * 2 * (16 + 48)
    large = {s.name: s for s in _stages(images, plan_for(Steady()), True, 29, _Trial(8, weights=10**9))}
    assert large[NULL].backwards == 3 * 29 * 2 * (16 + 48)  # moves are found once more for answers
    old = _stages(images, BuildPlan(), True, 29, trial)
    new, before = (sum(s.forwards + 2 * s.backwards for s in of) for of in (stages.values(), old))
    assert new < 70 * 3226 < before / 3
    bare = {s.name: s for s in _stages(images, plan_for(Steady()), False, 29, trial)}  # answers weigh every image
    assert bare[NULL].forwards > 58 * 20 * 3225
