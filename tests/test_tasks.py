"""What a sweep measures together, and finished tasks that are not measured again."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Counted
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.build_null import build_null
from forwardinf.attribution.tables import table_of
from forwardinf.attribution.training_set import IndexShards
from forwardinf.draws import DrawPlan
from forwardinf.errors import IndexMismatch
from forwardinf.examples.catalog import Catalog
from forwardinf.index.store import Index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.scoring.score import score
from forwardinf.sweep import journal as journals
from forwardinf.sweep import tasks
from forwardinf.sweep.job import IndexRef, SweepJob
from forwardinf.sweep.journal import TaskJournal, identities
from forwardinf.sweep.rounds import Round
from forwardinf.sweep.tasks import tasks_of
from forwardinf.types import ModelSpec

METHOD = ForwardInf(own_draws=1)


@pytest.fixture
def pictures(sharded_pictures: Catalog) -> Catalog:
    return sharded_pictures


@pytest.fixture
def attributor(sharded: Attributor) -> Attributor:
    return sharded


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most six latents of the tiny model in a batch, and so three images at the two draws of a loss."""
    monkeypatch.setattr(tasks, "CPU_POSITIONS", 6 * 8 * 8)


@pytest.fixture
def jobs(attributor: Attributor, pictures: Catalog) -> list[SweepJob]:
    return jobs_of(attributor, pictures)


def jobs_of(attributor: Attributor, pictures: Catalog) -> list[SweepJob]:
    query = attributor.query(pictures.picture(pictures.images[0]), "patch 0")
    return attributor.jobs(attributor.prepare(query, METHOD), METHOD)


# What is measured together


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("left_out", [(), (1,), (0, 4, 5, 6, 7)])
def test_threads_measure_the_tasks_of_the_index(attributor: Attributor, pictures: Catalog, left_out: tuple[int, ...]):
    ids = [image.id for n, image in enumerate(pictures.images) if n not in left_out]
    visiting = replace(attributor, index=attributor.index.part(ids)) if left_out else attributor
    jobs = jobs_of(visiting, pictures)
    expected = [task for job in jobs for task in tasks_of(job, IndexShards(visiting.index))]
    found = list(visiting.sweep(jobs[0].state, METHOD))
    assert [task.example_ids for task in expected] == [result.example_ids for result in found]
    if not left_out:
        assert [len(task.rows) for task in expected] == [4, 4, 2, 3, 1, 3, 1, 2, 4, 4, 2]  # likeness, loss, size
    shards = IndexShards(visiting.index)
    assert all(tuple(shards.ids[task.shard][row] for row in task.rows) == task.example_ids for task in expected)


@pytest.mark.usefixtures("small_batches")
def test_what_is_measured_is_the_same_to_the_bit_with_any_number_of_threads(
    attributor: Attributor, jobs: list[SweepJob]
):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(list(attributor.sweep(jobs[0].state, METHOD)))
    finally:
        torch.set_num_threads(before)
    for one, *others in zip(*found, strict=True):
        assert all(torch.equal(one.values, other.values) for other in others)


def test_scores_so_far_are_numbers_in_whatever_order_tasks_come(attributor: Attributor, jobs: list[SweepJob]):
    results = tuple(attributor.sweep(jobs[0].state, METHOD))
    for some in (results[::-1][:4], results[1::2], results[::-1]):
        so_far = score(METHOD.changes(jobs[0].state, table_of(attributor.index, jobs[0].state, some)))
        assert so_far.scores.isfinite().all()
    assert len(so_far.scores) == attributor.index.count


def test_an_index_is_opened_elsewhere_only_where_it_is_the_one_that_was_verified(attributor: Attributor):
    index = attributor.index
    assert Index.open_verified(index.folder, index.fingerprint).info == index.info
    with pytest.raises(IndexMismatch, match="holds another index"):
        Index.open_verified(index.folder, "0" * 64)


# Finished tasks


@pytest.mark.usefixtures("small_batches")
def test_a_sweep_that_was_cut_off_goes_on_and_gives_the_same_bits(
    attributor: Attributor, jobs: list[SweepJob], counted: Counted, tmp_path: Path
):
    state, kept = jobs[0].state, replace(attributor, journal=tmp_path / "journal")
    whole = list(attributor.sweep(state, METHOD))
    everything, counted.latents = counted.latents, 0
    with closing(kept.sweep(state, METHOD)) as sweep:
        for result in sweep:
            if result.quantity == "loss":
                break
    first, counted.latents = counted.latents, 0
    resumed = list(kept.sweep(state, METHOD))
    assert (first > 0, counted.latents) == (True, everything - first)
    counted.latents = 0
    again = list(kept.sweep(state, METHOD))
    assert counted.latents == 0
    for one, *others in zip(whole, resumed, again, strict=True):
        assert all(torch.equal(one.values, other.values) for other in others)


@pytest.mark.parametrize("damage", [lambda content: content[:-3], lambda content: content[:-1] + b"?", lambda _: b""])
def test_a_finished_task_that_is_torn_or_damaged_counts_as_absent(tmp_path: Path, jobs: list[SweepJob], damage: Any):
    journal, values = TaskJournal(tmp_path).of(jobs)[0], torch.rand(2, 3)
    assert journal.get(("a", "b")) is None
    journal.put(("a", "b"), values)
    assert torch.equal(journal.get(("a", "b")), values)
    assert journal.get(("b", "a")) is None
    (file,) = tmp_path.rglob("*.task")
    file.write_bytes(damage(file.read_bytes()))
    assert journal.get(("a", "b")) is None


JOB = SweepJob(
    ModelSpec("here"),
    IndexRef("here", "1" * 64),
    METHOD,
    Round("as state", (0,), {"w": torch.ones(2)}),
    Round("loss", (0, 1), {"w": torch.ones(2)}),
    DrawPlan(0, 3),
)
DECISIVE: dict[str, SweepJob] = {
    "dtype": replace(JOB, model=replace(JOB.model, dtype="float16")),
    "device": replace(JOB, model=replace(JOB.model, device="cuda")),
    "tunable": replace(JOB, model=replace(JOB.model, tunable="attention")),
    "index": replace(JOB, index=replace(JOB.index, fingerprint="2" * 64)),
    "setting": replace(JOB, method=ForwardInf(own_draws=2)),
    "state": replace(JOB, state=replace(JOB.state, deltas={"w": torch.zeros(2)})),
    "quantity": replace(JOB, round=replace(JOB.round, quantity="size")),
    "draws": replace(JOB, round=replace(JOB.round, draws=(0, 2))),
    "weights": replace(JOB, round=replace(JOB.round, deltas={"w": torch.tensor([1.0, 1.0000001])})),
    "precision of weights": replace(JOB, round=replace(JOB.round, deltas={"w": torch.ones(2).view(torch.int32)})),
    "one figure": replace(JOB, round=replace(JOB.round, one_figure=True)),
    "plan": replace(JOB, plan=DrawPlan(1, 3)),
}


@pytest.mark.parametrize("ingredient", DECISIVE)
def test_finished_tasks_are_known_by_all_that_decides_them(ingredient: str):
    assert identities([DECISIVE[ingredient]]) != identities([JOB])


def test_finished_tasks_are_of_one_version(monkeypatch: pytest.MonkeyPatch):
    before = identities([JOB])
    monkeypatch.setattr(journals, "__version__", "another")
    assert identities([JOB]) != before


def test_finished_tasks_do_not_depend_on_where_things_lie_and_which_others_are_visited():
    elsewhere = replace(JOB, model=replace(JOB.model, checkpoint="there", device="cpu"))
    elsewhere = replace(elsewhere, index=replace(JOB.index, folder="there"))
    assert identities([elsewhere, JOB]) == identities([JOB]) * 2
    assert identities([replace(JOB, round=replace(JOB.round, example_ids=("a",)))]) == identities([JOB])


def test_a_null_goes_on_in_the_middle_of_a_picture(
    sharded: Attributor, pictures: Catalog, counted: Counted, tmp_path: Path
):
    copy = shutil.copytree(sharded.index.folder, tmp_path / "index")  # it is changed
    attributor = replace(sharded, index=Index.open(copy))
    found: list[int] = []
    follow = Attributor.follow

    def cut_off(self: Attributor, query: Any, method: Any) -> Any:
        for progress in follow(self, query, method):
            yield progress
            found.append(progress.done)
            if len(found) == 3:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Attributor, "follow", cut_off)
        with pytest.raises(KeyboardInterrupt):
            build_null(attributor, METHOD, pictures, 1, unprompted=False)
    first, counted.latents = counted.latents, 0
    partly = attributor.index.folder / "reference.partial" / "tasks"
    assert len(list(partly.rglob("*.task"))) >= 3
    built = build_null(attributor, METHOD, pictures, 1, unprompted=False)
    resumed, counted.latents = counted.latents, 0
    assert not partly.exists()
    assert built.null_changes is not None
    assert len(built.null_changes.queries) == 1
    build_null(
        replace(attributor, against_null=False), METHOD.changed(loss_budget=0.1001), pictures, 1, unprompted=False
    )
    assert resumed < counted.latents < first + resumed
