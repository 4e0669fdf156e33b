"""A sweep on the workers of a Ray cluster, on this machine or on many: `pip install "forwardinf[ray]"`.

Each worker holds the model on one GPU, or on one core, and the shard that it read last. What the jobs of a sweep have
in common, the moved weights above all, is put into the object store once, from where the workers of a machine read the
same copy. A task names a round, a shard and its rows. This process hands the tasks out, two to a worker so that none
waits, and takes the results in any order; so what was not handed out when the sweep is closed is never begun.

A worker that is lost costs the tasks that it had: another one does them, and a new one is started in its place.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from ...errors import InvalidSettings, WorkersLost
from ...stopping import check
from ..job import SweepJob
from ..journal import TaskJournal
from ..packing import Packed, packed, unpacked
from ..rounds import Measured
from ..tasks import Task, tasks_of
from ..worker import LastShards, Opener, SweepWorker

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise InvalidSettings(
        'The executor “ray” needs Ray, which is not installed: pip install "forwardinf[ray]".'
    ) from error

if TYPE_CHECKING:
    from torch import Tensor

AHEAD = 2  # tasks that a worker has at a time, so that it need not wait for the next one
TRIES = 3  # of a task, each on a worker that was lost; and starts of a worker
CONNECTING = 5  # seconds that a head node has to answer
STARTING = 120  # seconds without any worker
LOOKING = 0.2  # seconds after which it is looked again whether a sweep is to stop
SHORT_OF_MEMORY = "A machine may be short of memory: try --ray-workers with a smaller number."
Ref: TypeAlias = Any  # of an object in the store
Handle: TypeAlias = Any  # of a worker


def load(opener: Opener, address: str | None, workers: int | None) -> RayExecutor:
    """An executor on the cluster at `address`, or on one of its own on this machine; at most so many `workers`.

    Raises InvalidSettings, in seconds, where there is no cluster.
    """
    if address is not None:
        _require_reachable(address)
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        alone = {} if address else {"include_dashboard": False}
        try:
            ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **alone)
        except Exception as error:  # Ray says by no class of its own that a cluster cannot be had
            raise InvalidSettings(_no_cluster(address or "this machine", str(error))) from error
    return RayExecutor(opener, workers)


def _require_reachable(address: str) -> None:
    """Raise InvalidSettings where nothing answers there; Ray itself would try for minutes."""
    if address == "auto":  # a cluster that this machine is part of
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise InvalidSettings(f"The address “{address}” of a Ray cluster is neither host:port nor “auto”.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECTING).close()
    except (OSError, OverflowError) as error:
        raise InvalidSettings(_no_cluster(address, str(error))) from error


def _no_cluster(address: str, why: str) -> str:
    return (
        f"There is no Ray cluster at “{address}” ({why}). Start a head node with `ray start --head`, join it from this "
        "machine with `ray start --address HOST:PORT`, and give the same address with --ray-address or "
        "FORWARDINF_RAY_ADDRESS."
    )


class RayExecutor:
    """Runs jobs on the workers of the cluster that this process is connected to."""

    def __init__(self, opener: Opener, workers: int | None = None) -> None:
        """At most so many `workers`; by default as many as the cluster has GPUs, or cores for a model on CPUs."""
        self._opener, self._most = opener, workers
        self._shards = LastShards(opener)
        self._pools: dict[str, _Pool] = {}  # by kind of device

    def run(self, jobs: Iterable[SweepJob], journal: TaskJournal | None = None) -> Generator[Measured, None, None]:
        """As `Executor.run`; raises WorkersLost where workers are lost time and again, or none can be had."""
        jobs = tuple(jobs)
        kept, waiting = journal.of(jobs) if journal else None, deque[_Assigned]()
        for number, job in enumerate(jobs):
            for task in tasks_of(job, self._shards.of(job.index)):
                values = kept[number].get(task.example_ids) if kept else None
                if values is None:
                    waiting.append(_Assigned(number, task))
                else:
                    yield job.found(task.example_ids, values)
        if not waiting:
            return
        with closing(self._pool(jobs[0].model.device).measured(packed(jobs), waiting)) as measured:
            for done, values in measured:
                if kept:
                    kept[done.number].put(done.task.example_ids, values)
                yield jobs[done.number].found(done.task.example_ids, values)

    def _pool(self, device: str) -> _Pool:
        kind = "CPU" if device == "cpu" else "GPU"
        if kind not in self._pools:
            there = int(ray.cluster_resources().get(kind, 0))
            if not there:
                raise InvalidSettings(f"The Ray cluster has no {kind}. Add a machine that has one, or change --device.")
            self._pools[kind] = _Pool(self._opener, kind, min(self._most or there, there))
        return self._pools[kind]


@dataclass
class _Assigned:
    """A task of the job with this number among the jobs of a sweep."""

    number: int
    task: Task
    lost: int = 0  # workers that were lost while they had it


class _Pool:
    """Workers that stay from one sweep to the next, and are started again where they are lost."""

    def __init__(self, opener: Opener, kind: str, count: int) -> None:
        resources = {"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}
        self._class = ray.remote(**resources)(_Actor)
        self._opener, self._kind, self._count = opener, kind, count
        self._starts = 0  # that are left to this sweep
        self._starting: dict[Ref, Handle] = {}
        self._ready: list[Handle] = []

    def measured(self, jobs: Packed, waiting: deque[_Assigned]) -> Generator[tuple[_Assigned, Tensor], None, None]:
        """What each of these tasks found, in any order; closing it drops those that were not begun."""
        running: dict[Ref, tuple[Handle, _Assigned]] = {}
        self._starts, stored = TRIES * self._count, ray.put(jobs)
        while len(self._ready) + len(self._starting) < self._count:
            self._start()
        try:
            while waiting or running:
                self._hand_out(stored, waiting, running)
                for ref in self._finished(running):
                    worker, task = running[ref]
                    values = _result(ref)
                    if values is None:
                        yield from self._after_losing(worker, waiting, running)
                    else:
                        del running[ref]
                        yield task, torch.tensor(values)
        finally:
            for ref in running:
                ray.cancel(ref)
            for worker in self._ready:
                worker.rest.remote()

    def _hand_out(self, stored: Ref, waiting: deque[_Assigned], running: dict[Ref, tuple[Handle, _Assigned]]) -> None:
        """Tasks to workers that are ready; one that was lost before goes alone, so that it is known what ends them."""
        for count in range(AHEAD):
            for worker in self._ready:
                having = [task for its, task in running.values() if its is worker]
                if waiting and len(having) == count and not (count and any(t.lost for t in (*having, waiting[0]))):
                    task = waiting.popleft()
                    # In a list, so that a worker takes it out of the store once, and not for each task.
                    running[worker.measure.remote([stored], task.number, task.task)] = worker, task

    def _finished(self, running: Mapping[Ref, object]) -> list[Ref]:
        """Tasks that are finished or lost; none where a worker got ready meanwhile. Raises WorkersLost without any."""
        if not running and not self._starting:
            raise WorkersLost(f"All workers of the Ray cluster were lost, {TRIES} times in a row. {SHORT_OF_MEMORY}")
        done = _first_of([*running, *self._starting], math.inf if running else STARTING)
        if not done:
            raise WorkersLost(
                f"No worker was ready on the Ray cluster within {STARTING} s. Its {self._kind}s may all be in use, as "
                "`ray status` shows."
            )
        for ref in [ref for ref in done if ref in self._starting]:
            worker = self._starting.pop(ref)
            if _result(ref):
                self._ready.append(worker)
            else:
                self._start()
        return [ref for ref in done if ref in running]

    def _start(self) -> None:
        if self._starts:
            self._starts -= 1
            worker = self._class.remote(self._opener)
            self._starting[worker.ready.remote()] = worker

    def _after_losing(
        self, worker: Handle, waiting: deque[_Assigned], running: dict[Ref, tuple[Handle, _Assigned]]
    ) -> list[tuple[_Assigned, Tensor]]:
        """Replace a worker and give its tasks to others, but for those that it finished, which are returned."""
        self._ready.remove(worker)
        ray.kill(worker)
        self._start()
        finished = []
        for ref in [ref for ref, (its, _) in running.items() if its is worker]:
            task, values = running.pop(ref)[1], _result(ref)
            if values is None:
                waiting.appendleft(_tried_again(task))
            else:
                finished.append((task, torch.tensor(values)))
        return finished


def _first_of(refs: list[Ref], seconds: float) -> list[Ref]:
    """Those that are ready as soon as one is; none after so many `seconds`. Raises StopRequested meanwhile."""
    end = time.monotonic() + seconds
    while True:
        check()
        done: list[Ref] = ray.wait(refs, timeout=max(0.0, min(LOOKING, end - time.monotonic())))[0]
        if done or time.monotonic() >= end:
            return done


def _result(ref: Ref) -> Any:  # noqa: ANN401
    """What a worker returned, or None where the worker was lost; raises what it raised."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        raise error.cause from error
    except RayError:
        return None


def _tried_again(assigned: _Assigned) -> _Assigned:
    if assigned.lost + 1 == TRIES:
        task = assigned.task
        raise WorkersLost(
            f"{TRIES} workers of the Ray cluster were lost while they measured {len(task.example_ids)} images of shard "
            f"{task.shard}, from “{task.example_ids[0]}” on. {SHORT_OF_MEMORY}"
        )
    return replace(assigned, lost=assigned.lost + 1)


class _Actor:
    """A worker in a process of its own, on any machine of the cluster."""

    def __init__(self, opener: Opener) -> None:
        torch.set_num_threads(1)  # as each batch has on a CPU
        self._worker = SweepWorker(opener)
        self._sweep: tuple[Ref, tuple[SweepJob, ...]] | None = None

    def ready(self) -> bool:
        return True

    def measure(self, stored: list[Ref], number: int, task: Task) -> np.ndarray:
        (sweep,) = stored
        if self._sweep is None or self._sweep[0] != sweep:
            self.rest()
            self._sweep = sweep, unpacked(ray.get(sweep))
        return self._worker.measure(self._sweep[1][number], task).numpy()

    def rest(self) -> None:
        self._worker.rest()
        self._sweep = None  # or it would stay in the store
