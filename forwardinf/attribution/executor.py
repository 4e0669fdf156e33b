"""Where sweeps run: in this process, or where a file of sweep/executors says."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from ..config import Settings
from ..errors import ForwardInfError, InvalidSettings
from ..index.store import Index
from ..models.registry import load_model
from ..sweep import executors
from ..sweep.job import Executor, IndexRef
from ..types import ModelSpec
from .training_set import IndexShards

if TYPE_CHECKING:
    from ..models.protocol import AttributableModel


@dataclass(frozen=True)
class FromFolders:
    """The Opener of executors whose workers load model and index themselves, each from the same folders."""

    def model(self, spec: ModelSpec, index: IndexRef) -> AttributableModel:
        with _naming_the_machine():
            opened, model = _opened(index), load_model(spec)
            opened.require(model)
            return model

    def shards(self, index: IndexRef) -> IndexShards:
        with _naming_the_machine():
            return IndexShards(_opened(index))


def load_executor(settings: Settings) -> Executor | None:
    """The executor that the settings name; None for threads of this process, which need nothing.

    Raises InvalidSettings where there is none of that name, or it cannot be used.
    """
    names = sorted(module.name for module in iter_modules(executors.__path__))
    if settings.executor not in names:
        raise InvalidSettings(f"There is no executor “{settings.executor}”; those here are: {', '.join(names)}.")
    if settings.executor == "threads":
        return None
    module = import_module(f"{executors.__name__}.{settings.executor}")
    executor: Executor = module.load(FromFolders(), settings.ray_address, settings.ray_workers)
    return executor


def _opened(index: IndexRef) -> Index:
    return Index.open_verified(Path(index.folder), index.fingerprint)


@contextmanager
def _naming_the_machine() -> Iterator[None]:
    try:
        yield
    except ForwardInfError as error:
        raise type(error)(f"On the machine {socket.gethostname()}: {error}") from error
