"""Finished tasks of sweeps on disk, so that a sweep that was cut off goes on where it was.

Each job has a folder named by all that decides what it measures, with a file for each task. A file begins with the
SHA-256 of the rest of it; one that is torn or damaged counts as absent, and its task is done again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors.torch import load, save
from torch import Tensor

from .. import __version__
from ..files.atomic import write_bytes
from ..files.identity import digest_of
from ..types import LatentBatch
from .job import SweepJob
from .rounds import Measured

DIGEST = hashlib.sha256().digest_size
NAME = 32  # hexadecimal digits of the name of a folder or file


@dataclass(frozen=True)
class JobJournal:
    """What was measured of one job."""

    folder: Path

    def get(self, example_ids: Sequence[str]) -> Tensor | None:
        """What a task with these examples found, `[b columns ...]`; None where it was not finished."""
        path = self._path(example_ids)
        kept = _read(path)
        return None if kept is None else kept["values"]

    def put(self, example_ids: Sequence[str], values: Tensor) -> None:
        """Keep what a task found; it is on disk when this returns."""
        ids = torch.frombuffer(bytearray(json.dumps(list(example_ids)).encode()), dtype=torch.uint8)
        content = save({"values": values.contiguous(), "example_ids": ids})
        write_bytes(self._path(example_ids), hashlib.sha256(content).digest() + content)

    def tasks(self) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """The examples of every finished task and what it found, whichever sweep they belong to."""
        for path in sorted(self.folder.glob("*.task")):
            if (kept := _read(path)) is not None and "example_ids" in kept:
                yield tuple(json.loads(kept["example_ids"].numpy().tobytes())), kept["values"]

    def remembering(self, measure: Callable[[LatentBatch], Tensor]) -> Callable[[LatentBatch], Tensor]:
        """`measure`, but of a batch that was measured before what it found then."""

        def remembered(batch: LatentBatch) -> Tensor:
            values = self.get(batch.example_ids)
            if values is None:
                values = measure(batch)
                self.put(batch.example_ids, values)
            return values

        return remembered

    def _path(self, example_ids: Sequence[str]) -> Path:
        return self.folder / f"{digest_of(list(example_ids), NAME)}.task"


@dataclass(frozen=True)
class TaskJournal:
    """A folder of finished tasks, of any number of sweeps."""

    folder: Path

    def of(self, jobs: Sequence[SweepJob]) -> list[JobJournal]:
        """Where the finished tasks of each of these jobs are."""
        return [JobJournal(self.folder / name[:NAME]) for name in identities(jobs)]

    def found(self, jobs: Sequence[SweepJob]) -> Iterator[Measured]:
        """All that is known of these jobs, of whichever examples; some may come twice."""
        for job, kept in zip(jobs, self.of(jobs), strict=True):
            for example_ids, values in kept.tasks():
                yield job.found(example_ids, values)


def _read(path: Path) -> dict[str, Tensor] | None:
    """A task's file; None where there is none that is whole."""
    content = path.read_bytes() if path.is_file() else b""
    if content[:DIGEST] != hashlib.sha256(content[DIGEST:]).digest():
        return None
    return load(content[DIGEST:])


def identities(jobs: Sequence[SweepJob]) -> list[str]:
    """A digest of all that decides what each job measures; not of where its model and its index lie.

    The index's fingerprint covers the model's. Raises TypeError for a state of which no digest can be taken.
    """
    known: dict[int, list[Any]] = {}  # tensors that several jobs share, by id
    return [digest_of(_ingredients(job, known)) for job in jobs]


def _ingredients(job: SweepJob, known: dict[int, list[Any]]) -> list[Any]:
    spec, one = job.model, job.round
    model = [spec.dtype, spec.device.partition(":")[0], spec.tunable]
    measured = [one.quantity, one.columns, one.draws, dict(one.deltas)]
    return [__version__, model, job.index.fingerprint, *_plain([job.method, job.state, measured, job.plan], known)]


def _plain(value: object, known: dict[int, list[Any]]) -> Any:  # noqa: ANN401
    """A value in JSON's types, with a tensor's content by its SHA-256; what is none of these stays as it is."""
    if isinstance(value, torch.Tensor):
        if id(value) not in known:
            content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            known[id(value)] = [str(value.dtype), list(value.shape), hashlib.sha256(content.data).hexdigest()]
        return known[id(value)]
    if isinstance(value, BaseModel):
        return [str(type(value)), _plain(dict(value), known)]
    if is_dataclass(value):
        return [str(type(value)), _plain({field.name: getattr(value, field.name) for field in fields(value)}, known)]
    if isinstance(value, dict):
        return {key: _plain(part, known) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, known) for part in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return str(value) if isinstance(value, Path) else value
