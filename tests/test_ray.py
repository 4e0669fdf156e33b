"""Sweeps on a Ray cluster of two workers on this machine."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from conftest import Counted, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.executor import load_executor
from forwardinf.attribution.shortlist import Effort
from forwardinf.attribution.tables import table_of
from forwardinf.cli.main import main
from forwardinf.config import load_settings
from forwardinf.errors import WorkersLost
from forwardinf.examples.catalog import Catalog
from forwardinf.index.store import Index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.methods.steady import Steady
from forwardinf.sweep.executors import ray as executor_module
from forwardinf.sweep.executors.ray import RayExecutor
from watched import Watched

METHOD = ForwardInf()


@pytest.fixture(scope="module")
def executor() -> Iterator[RayExecutor]:
    with pytest.MonkeyPatch.context() as patch:  # workers find `watched`
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        # As many CPUs as two executors need: one that the command line makes, and this one, whose workers stay.
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield load_executor(load_settings(executor="ray", ray_workers=2))
        ray.shutdown()


@pytest.fixture
def on_ray(sharded: Attributor, executor: RayExecutor) -> Attributor:
    return replace(sharded, executor=executor)


@pytest.fixture(scope="module")
def state(sharded: Attributor, sharded_pictures: Catalog) -> Any:
    return sharded.prepare(sharded.query(sharded_pictures.picture(sharded_pictures.images[0]), "patch 0"), METHOD)


def assert_the_same(sharded: Attributor, state: Any, results: tuple[Any, ...]) -> None:
    """As threads of this process measure, each task once."""
    expected = tuple(sharded.sweep(state, METHOD))
    assert {(r.quantity, r.example_ids) for r in results} == {(r.quantity, r.example_ids) for r in expected}
    assert len(results) == len(expected)
    here, there = (table_of(sharded.index, state, found) for found in (expected, results))
    for quantity in here.quantities:
        assert torch.equal(here[quantity], there[quantity]), quantity


def workers(executor: RayExecutor) -> list[Any]:
    return executor._pools["CPU"]._ready


def test_a_sweep_gives_the_same_bits_and_stores_what_is_moved_once(
    sharded: Attributor, on_ray: Attributor, state: Any, monkeypatch: pytest.MonkeyPatch
):
    put, stored = ray.put, []
    monkeypatch.setattr(ray, "put", lambda value: stored.append(value) or put(value))
    before = {name: weights.clone() for name, weights in sharded.model.tunable_parameters().items()}
    assert_the_same(sharded, state, tuple(on_ray.sweep(state, METHOD)))
    assert len(stored) == 1
    assert all(torch.equal(weights, before[name]) for name, weights in sharded.model.tunable_parameters().items())
    part = replace(sharded, index=sharded.index.part([image.id for image in sharded.index.catalog.images[1:7]]))
    assert_the_same(part, state, tuple(replace(part, executor=on_ray.executor).sweep(state, METHOD)))


def test_a_race_drops_and_scores_the_same_images(sharded: Attributor, on_ray: Attributor, sharded_pictures: Catalog):
    method, effort = Steady(own_draws=2), Effort(first=1, raced=2, raced_sample=2, similar=1, worded=0)
    query = sharded.query(sharded_pictures.picture(sharded_pictures.images[0]), "patch 0")
    *_, here = sharded.follow(query, method, effort)
    *_, there = on_ray.follow(query, method, effort)
    assert here.shortlist.heats == there.shortlist.heats
    torch.testing.assert_close(here.scores().scores, there.scores().scores, rtol=1e-3, atol=1e-4)


def test_a_sweep_that_is_stopped_begins_nothing_more_and_the_next_one_is_whole(
    sharded: Attributor, on_ray: Attributor, executor: RayExecutor, state: Any, tmp_path: Path
):
    watched = Watched(folder=str(tmp_path))
    with closing(on_ray.sweep(state, watched)) as sweep:
        next(sweep)
    ray.get([worker.ready.remote() for worker in workers(executor)])  # behind all that they were handed
    assert len(list(tmp_path.iterdir())) <= executor_module.AHEAD * 2 < len(on_ray.jobs(state, METHOD)) * 3
    resting = [worker.__ray_call__.remote(lambda actor: actor._worker._job is None) for worker in workers(executor)]
    assert all(ray.get(resting))
    assert_the_same(sharded, state, tuple(on_ray.sweep(state, METHOD)))


def test_a_sweep_goes_on_from_the_journal_on_another_executor(
    sharded: Attributor, on_ray: Attributor, state: Any, counted: Counted, tmp_path: Path
):
    with closing(replace(on_ray, journal=tmp_path).sweep(state, METHOD)) as sweep:
        first = list(islice(sweep, 4))
    resumed = tuple(replace(sharded, journal=tmp_path).sweep(state, METHOD))
    measured, counted.latents = counted.latents, 0
    assert_the_same(sharded, state, resumed)
    already = sum(len(r.example_ids) * len(r.columns) for r in first if r.quantity != "likeness")
    assert measured == counted.latents - already
    assert_the_same(sharded, state, tuple(replace(on_ray, journal=tmp_path).sweep(state, METHOD)))


def test_what_a_worker_raises_is_raised_here(on_ray: Attributor, state: Any):
    with pytest.raises(FileNotFoundError):
        list(on_ray.sweep(state, Watched(folder="/nowhere")))


def test_a_worker_that_is_killed_costs_only_its_tasks(
    sharded: Attributor, on_ray: Attributor, executor: RayExecutor, state: Any
):
    with closing(on_ray.sweep(state, METHOD)) as sweep:
        results = [next(sweep)]
        lost = workers(executor)[0]
        os.kill(ray.get(lost.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)
        results += sweep
    assert lost not in workers(executor)
    assert_the_same(sharded, state, tuple(results))


def test_a_task_that_ends_its_workers_is_named(
    on_ray: Attributor, state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(executor_module, "TRIES", 2)
    with pytest.raises(WorkersLost, match=r"2 workers .* 4 images of shard 1, from “04.png” on"):
        list(on_ray.sweep(state, Watched(folder=str(tmp_path), deadly="05.png")))


def test_the_command_line_builds_and_attributes_on_workers_with_the_same_bits(
    tiny_checkpoint: Path, executor: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    folder = tmp_path / "images"
    folder.mkdir()
    write_patches(folder, 8)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for row in rows[:4]:
        row["split"] = "held_out"
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["forwardinf", *arguments, "--model", str(tiny_checkpoint)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    answers = {}
    for where in ("threads", "ray"):
        here = ["--executor", where, *(["--ray-workers", "1"] if where == "ray" else [])]
        index = tmp_path / where
        run("index", "build", str(folder), "--out", str(index), "--draws", "2", "--null-pictures", "1", *here)
        asked = ["attribute", str(folder / "05.png"), "--index", str(index), "--prompt", "patch 5", "--all", "--json"]
        record = json.loads(run(*asked, *here))
        files = {name: digest for name, digest in Index.open(index).manifest.files.items() if name != "about.json"}
        answers[where] = (files, record["results"], record["confidence"])  # the file left out says when it was built
    assert answers["ray"] == answers["threads"]
    assert executor_module.ray.is_initialized()
