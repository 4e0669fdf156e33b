"""A run: one question to the server, from asking to its end, as it lies on disk.

<folder>/<id>/run.json     what was asked, and how far it is
<folder>/<id>/query.bin    the picture's original bytes, until the run has ended

An id cannot be guessed: who knows it may watch the run and stop it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from ..errors import MissingAsset
from ..files.atomic import clear_leftovers, write_bytes, write_text, writing_folder

State = Literal["waiting", "running", "finished", "stopped", "failed"]
ENDED: tuple[State, ...] = ("finished", "stopped", "failed")
RUN, PICTURE, LOCK = "run.json", "query.bin", ".lock"
KEPT = 1000  # runs that have ended, the latest; their answers are kept elsewhere
NO_RUN = "This link leads to no question that is known here. Ask it again."


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Asked(_Frozen):
    """A question as it was put: what decides its answer, beside the picture's bytes."""

    sha256: str | None  # of the picture; None where it is drawn first
    file_name: str
    prompt: str
    method: dict[str, Any]  # its settings
    effort: dict[str, Any] | None  # None weighs every image
    index: str  # fingerprint
    again: bool = False  # although the same was asked before
    drawing: dict[str, Any] | None = None  # what the picture is to be drawn with, where none was given


class RunRecord(_Frozen):
    """A run as it is kept."""

    id: str
    asked: Asked
    asked_at: AwareDatetime
    state: State = "waiting"
    begun: int = 0  # how often answering it was begun; a process that is killed leaves one that has no end
    result: str | None = None  # id of the answer, once it is finished
    problem: str = ""  # why it failed, for who asked
    remark: str = ""  # on its answer, for who asked

    @classmethod
    def new(cls, asked: Asked) -> RunRecord:
        return cls(id=secrets.token_hex(16), asked=asked, asked_at=datetime.now(UTC))


@dataclass(frozen=True)
class RunFolder:
    """The runs on disk; each file is replaced whole. One process at a time writes to it."""

    folder: Path
    lock: int  # descriptor of the locked file

    @classmethod
    def open(cls, folder: Path) -> RunFolder | None:
        """The runs in `folder`; None where another process has it open. Raises OSError where it cannot be written."""
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        clear_leftovers(folder)
        return cls(folder, descriptor)

    def close(self) -> None:
        os.close(self.lock)

    def read(self) -> list[RunRecord]:
        """All runs, in the order in which they were asked; older ones than the latest `KEPT` that ended are removed.

        What cannot be read is left alone and left out.
        """
        found = sorted(filter(None, map(_read, self.folder.glob(f"*/{RUN}"))), key=lambda run: (run.asked_at, run.id))
        ended = [run for run in found if run.state in ENDED]
        old = {run.id for run in ended[: max(0, len(ended) - KEPT)]}
        for run_id in old:
            shutil.rmtree(self.folder / run_id, ignore_errors=True)
        return [run for run in found if run.id not in old]

    def add(self, run: RunRecord, original: bytes | None) -> None:
        """Keep a new run with its picture's bytes, where it has any: both or neither."""
        with writing_folder(self.folder / run.id) as whole:
            write_text(whole / RUN, _json_of(run))
            if original is not None:
                write_bytes(whole / PICTURE, original)

    def write(self, run: RunRecord) -> None:
        write_text(self.folder / run.id / RUN, _json_of(run))

    def keep_picture(self, run_id: str, original: bytes) -> None:
        write_bytes(self.folder / run_id / PICTURE, original)

    def picture(self, run_id: str) -> bytes | None:
        """The original bytes of a run's picture; None where there are none, or not any more."""
        try:
            return (self.folder / run_id / PICTURE).read_bytes()
        except OSError:
            return None

    def forget_picture(self, run_id: str) -> None:
        (self.folder / run_id / PICTURE).unlink(missing_ok=True)


def _json_of(run: RunRecord) -> str:
    return run.model_dump_json(indent=1) + "\n"


def _read(path: Path) -> RunRecord | None:
    try:
        run = RunRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return run if run.id == path.parent.name else None


def require_run_id(text: str) -> str:
    """`text`; raises MissingAsset where it is no id of a run."""
    if not re.fullmatch("[0-9a-f]{32}", text):
        raise MissingAsset(NO_RUN)
    return text
