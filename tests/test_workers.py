"""Sweeps where workers load model and index themselves: how a job gets there, and what is refused."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.executor import FromFolders, load_executor
from forwardinf.attribution.training_set import IndexShards
from forwardinf.config import load_settings
from forwardinf.draws import DrawPlan
from forwardinf.errors import IndexMismatch, InvalidSettings, MissingAsset
from forwardinf.examples.catalog import Catalog
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.sweep.job import IndexRef, SweepJob
from forwardinf.sweep.packing import packed, unpacked
from forwardinf.sweep.rounds import Round
from forwardinf.sweep.tasks import tasks_of
from forwardinf.sweep.worker import SweepWorker
from forwardinf.types import ModelSpec

METHOD = ForwardInf()


def job_with(**deltas: torch.Tensor) -> SweepJob:
    one = Round("loss", (0, 1), deltas)
    return SweepJob(ModelSpec("here"), IndexRef("here", "1" * 64), METHOD, (one,), one, DrawPlan(0, 3))


TENSORS = {
    "float32": torch.arange(6.0).view(2, 3).T,
    "bfloat16": torch.ones(3, dtype=torch.bfloat16),
    "trained": torch.ones(2, requires_grad=True),
    "scalar": torch.tensor(3),
    "empty": torch.ones(0, 2),
}


def test_a_job_arrives_as_it_was_with_each_tensor_once():
    job = job_with(**TENSORS)
    jobs, (stream, contents) = unpacked(packed((job, job))), packed((job, job))
    assert len(contents) == len(TENSORS)
    assert len(stream) + sum(map(len, contents)) < len(pickle.dumps((job, job)))
    for arrived in (jobs[0].round.deltas, jobs[0].state[0].deltas, jobs[1].round.deltas):
        for name, tensor in TENSORS.items():
            assert torch.equal(arrived[name], tensor.detach()), name
            assert arrived[name].dtype == tensor.dtype
    assert jobs[0].method == METHOD


def test_a_job_means_the_same_in_another_folder_and_where_one_gpu_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    job = replace(job_with(), model=ModelSpec("model", device="cuda:3"), index=IndexRef("index", "1" * 64))
    (there,) = unpacked(packed((job,)))
    assert there.model == ModelSpec(str(tmp_path / "model"), device="cuda")
    assert there.index.folder == str(tmp_path / "index")
    (named,) = unpacked(packed((job_with(),)))
    assert named.model.checkpoint == "here"  # of a hub


def test_a_worker_measures_what_threads_do_and_restores_the_model(sharded: Attributor, sharded_pictures: Catalog):
    query = sharded.query(sharded_pictures.picture(sharded_pictures.images[0]), "patch 0")
    state = sharded.prepare(query, METHOD)
    worker, model = SweepWorker(FromFolders()), None
    jobs = unpacked(packed(tuple(sharded.jobs(state, METHOD))))
    expected = list(sharded.sweep(state, METHOD))
    tasks = [(job, task) for job in jobs for task in tasks_of(job, IndexShards(sharded.index))]
    for (job, task), result in reversed(list(zip(tasks, expected, strict=True))):
        assert torch.equal(worker.measure(job, task), result.values)
        model = worker._opened(job)
    assert model is worker._opened(jobs[0])  # loaded once
    worker.measure(jobs[1], tasks[-1][1])
    weights = sharded.model.tunable_parameters()
    assert not all(torch.equal(moved, weights[name]) for name, moved in model.tunable_parameters().items())
    worker.rest()
    assert all(torch.equal(restored, weights[name]) for name, restored in model.tunable_parameters().items())


def test_what_a_worker_cannot_open_is_named_with_its_machine(sharded: Attributor, tmp_path: Path):
    here = IndexRef(str(sharded.index.folder), sharded.index.fingerprint)
    with pytest.raises(MissingAsset, match=r"On the machine .*: “nowhere” is not an index"):
        FromFolders().shards(replace(here, folder=str(tmp_path / "nowhere")))
    with pytest.raises(IndexMismatch, match=r"On the machine .* holds another index"):
        FromFolders().shards(replace(here, fingerprint="0" * 64))
    with pytest.raises(MissingAsset, match="On the machine"):
        FromFolders().model(ModelSpec(str(tmp_path / "model")), here)


# What the settings name


def test_threads_need_no_executor_and_an_unknown_one_is_refused():
    assert load_executor(load_settings()) is None
    with pytest.raises(InvalidSettings, match="no executor “dask”; those here are: ray, threads"):
        load_executor(load_settings(executor="dask"))


def test_a_missing_ray_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "forwardinf.sweep.executors.ray", raising=False)
    with pytest.raises(InvalidSettings, match=r'pip install "forwardinf\[ray\]"'):
        load_executor(load_settings(executor="ray"))


@pytest.mark.parametrize(
    ("address", "named"),
    [("127.0.0.1:1", "no Ray cluster at “127.0.0.1:1”"), ("head", "neither host:port"), ("ray://a:1", "neither host")],
)
def test_a_head_node_that_is_not_there_is_named(address: str, named: str):
    with pytest.raises(InvalidSettings, match=named):
        load_executor(load_settings(executor="ray", ray_address=address))
