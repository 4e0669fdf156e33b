"""Indexes that the server builds one after another, each in a process of its own, and that a restart does not lose.

<folder>/<id>/build.json     what was asked, and how far it is
<folder>/<id>/.source/       the pictures, where they were uploaded
<folder>/<id>/<name>/        the index
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import MissingAsset
from ..files.atomic import write_text

log = logging.getLogger(__name__)

State = Literal["waiting", "running", "finished", "stopped", "failed"]
BUILD, SOURCE = "build.json", ".source"
ATTEMPTS = 3  # of a build that ends its process, in a row
DIED = "The build ended without a word {times} times, as it does where memory runs out; see the server’s log."
WENT_WRONG = "Something went wrong; the details are in the server’s log."


class AskedBuild(BaseModel):
    """An index as it was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str  # folder of training images
    model: str
    lora: str = ""
    device: str = "cpu"


class BuildRecord(BaseModel):
    """A build as it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    asked: AskedBuild
    state: State = "waiting"
    begun: int = 0  # how often it was begun without getting on
    problem: str = ""


@dataclass(eq=False)
class Build:
    """A build as it stands; the queue alone writes to it."""

    record: BuildRecord
    index: Path
    stage: str = ""
    done: int = 0
    total: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    _stage_began: tuple[float, int] = (0.0, 0)  # when, and what was done then

    @property
    def ended(self) -> bool:
        return self.record.state in ("finished", "stopped", "failed")

    def reached(self, stage: str, done: int, total: int) -> None:
        if stage != self.stage:
            self._stage_began = time.monotonic(), done
        self.stage, self.done, self.total = stage, done, total

    @property
    def seconds_left(self) -> float | None:
        """Of this stage, at its pace so far; None before anything of it is done."""
        began, before = self._stage_began
        new = self.done - before
        return (time.monotonic() - began) / new * (self.total - self.done) if new > 0 else None


class Builds:
    """Builds in a folder, one at a time; `finished` is called with each that is done, in their thread."""

    def __init__(self, folder: Path, finished: Callable[[Build], None]) -> None:
        self.folder, self._finished = folder, finished
        self._builds: dict[str, Build] = {}
        self._changed, self._closing = threading.Condition(), False
        for unasked in [path for path in folder.glob("*/") if not (path / BUILD).is_file()]:
            shutil.rmtree(unasked, ignore_errors=True)  # an upload that was left before anything was asked of it
        for path in sorted(folder.glob(f"*/{BUILD}"), key=lambda path: path.stat().st_mtime):
            try:
                record = BuildRecord.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                continue
            self._builds[record.id] = Build(record, path.parent / record.asked.name)
        self._thread = threading.Thread(target=self._work, name="forwardinf-builds", daemon=True)

    def start(self) -> None:
        """Begin to build; what had not ended goes on."""
        self._thread.start()

    def close(self) -> None:
        """End the process that builds; the build goes on when the folder is opened next."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def all(self) -> list[Build]:
        return list(self._builds.values())

    def get(self, build_id: str) -> Build:
        if build_id not in self._builds:
            raise MissingAsset("There is no such build.")
        return self._builds[build_id]

    def place(self) -> Path:
        """A new folder for what a build needs before it is asked for."""
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder

    def ask(self, folder: Path, asked: AskedBuild) -> Build:
        """Put a build in line, in a folder that `place` gave; on disk before this returns."""
        build = Build(BuildRecord(id=folder.name, asked=asked), folder / asked.name)
        self._write(build)
        return self._in_line(build)

    def stop(self, build_id: str) -> None:
        """What is done so far stays; `resume` goes on with it."""
        build = self.get(build_id)
        with self._changed:
            build.stop.set()
            if build.record.state == "waiting":
                self._mark(build, state="stopped")

    def resume(self, build_id: str) -> None:
        build = self.get(build_id)
        if build.record.state in ("stopped", "failed"):
            build.stop.clear()
            self._mark(build, state="waiting", begun=0, problem="")
            self._in_line(build)

    def _in_line(self, build: Build) -> Build:
        with self._changed:
            self._builds[build.record.id] = build
            self._changed.notify_all()
        return build

    def _next(self) -> Build | None:
        return next((build for build in self._builds.values() if not build.ended), None)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._next() is not None)
                if self._closing:
                    return
                build = self._next()
                assert build is not None
            self._follow(build)

    def _follow(self, build: Build) -> None:
        self._mark(build, state="running", begun=build.record.begun + 1)
        said = self._run(build)
        if self._closing:
            self._mark(build, state="waiting", begun=build.record.begun - 1)
        elif build.stop.is_set():
            self._mark(build, state="stopped")
        elif "finished" in said:
            self._end(build)
        elif "refused" in said:
            self._mark(build, state="failed", problem=str(said["refused"]))
        elif build.record.begun >= ATTEMPTS:
            self._mark(build, state="failed", problem=DIED.format(times=ATTEMPTS))

    def _end(self, build: Build) -> None:
        try:
            self._finished(build)
        except Exception as error:
            log.error("An index that was built cannot be served", exc_info=error)
            self._mark(build, state="failed", problem=WENT_WRONG)
        else:
            self._mark(build, state="finished")

    def _run(self, build: Build) -> dict[str, object]:
        """What the process said last: that it is finished, or why it is not; empty where it died."""
        asked = {**build.record.asked.model_dump(), "out": str(build.index)}
        command = [sys.executable, "-m", "forwardinf.jobs.build_child", json.dumps(asked)]
        said: dict[str, object] = {}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            watch = threading.Thread(target=self._end_when_unwanted, args=[build, child], daemon=True)
            watch.start()
            assert child.stdout is not None
            for line in child.stdout:
                said = json.loads(line) if line.startswith("{") else said
                if "stage" in said:
                    self._reached(build, said)
        watch.join()
        return said

    def _reached(self, build: Build, said: dict[str, object]) -> None:
        stage, done, total = str(said["stage"]), int(str(said["done"])), int(str(said["total"]))
        if build.stage == stage and done > build.done and build.record.begun > 1:
            self._mark(build, begun=1)  # what ends it from here on is something else
        build.reached(stage, done, total)

    def _end_when_unwanted(self, build: Build, child: subprocess.Popen[str]) -> None:
        while child.poll() is None:
            if self._closing or build.stop.wait(0.1):
                child.kill()
                return

    def _mark(self, build: Build, **fields: object) -> None:
        build.record = build.record.model_copy(update=fields)
        self._write(build)

    def _write(self, build: Build) -> None:
        write_text(self.folder / build.record.id / BUILD, build.record.model_dump_json(indent=1) + "\n")
