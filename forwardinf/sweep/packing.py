"""Jobs on their way to other processes, with the content of their tensors apart, so that it can be shared there."""

from __future__ import annotations

import io
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .job import SweepJob

if TYPE_CHECKING:
    from torch import Tensor

Packed = tuple[bytes, list[np.ndarray]]


def packed(jobs: tuple[SweepJob, ...]) -> Packed:
    """Jobs for a process in another folder or on another machine; a tensor that several of them share is there once."""
    stream, contents = io.BytesIO(), list[pickle.PickleBuffer]()
    _Pickler(stream, protocol=5, buffer_callback=contents.append).dump(tuple(map(_anywhere, jobs)))
    return stream.getvalue(), [np.frombuffer(content.raw(), np.uint8) for content in contents]


def unpacked(content: Packed) -> tuple[SweepJob, ...]:
    """The jobs; their tensors, on the CPU, are read where the content lies."""
    jobs: tuple[SweepJob, ...] = pickle.loads(content[0], buffers=content[1])
    return jobs


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:  # noqa: ANN401
        if not isinstance(value, torch.Tensor):
            return NotImplemented
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return _tensor, (content, value.dtype, tuple(value.shape))


def _tensor(content: np.ndarray, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes to it
        return torch.from_numpy(content).view(dtype).reshape(shape)


def _anywhere(job: SweepJob) -> SweepJob:
    """The same job by names that mean the same in other folders, and to a process that sees one GPU."""
    spec, index = job.model, job.index
    checkpoint = str(Path(spec.checkpoint).resolve()) if Path(spec.checkpoint).exists() else spec.checkpoint
    adapter = spec.adapter and replace(spec.adapter, file=str(Path(spec.adapter.file).resolve()))
    model = replace(spec, checkpoint=checkpoint, adapter=adapter, device=spec.device.partition(":")[0])
    return replace(job, model=model, index=replace(index, folder=str(Path(index.folder).resolve())))
