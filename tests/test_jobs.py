"""Runs that belong to the server: in order, on disk before they are acknowledged, and in line again after a restart."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from forwardinf.errors import InvalidRequest, MissingAsset, StopRequested
from forwardinf.jobs import run as runs
from forwardinf.jobs.queue import ENDED_THE_APP, WENT_WRONG, Run, RunQueue, open_queue
from forwardinf.jobs.run import Asked, RunFolder, RunRecord

ASKED = Asked(sha256="a" * 64, file_name="a.png", prompt="a", method={}, effort=None, index="i")


class Answering:
    """Answers a run by its prompt, when it is let to, and notes which it began."""

    def __init__(self) -> None:
        self.go, self.begun, self.prompts = threading.Event(), threading.Event(), []

    def __call__(self, run: Run, original: bytes | None) -> Generator[str, None, tuple[str, str] | None]:
        self.prompts.append(run.record.asked.prompt)
        yield "begun"
        self.begun.set()
        while not self.go.wait(0.01):
            if run.stop.is_set():
                return None
        if run.record.asked.prompt == "bad":
            raise InvalidRequest("It is bad.")
        if run.record.asked.prompt == "worse":
            raise RuntimeError("a secret")
        return f"answer to {run.record.asked.prompt} about {original!r}", "a remark"


def opened(folder: Path) -> RunQueue:
    return open_queue(folder, folder.with_name("otherwise"))


def asking(queue: RunQueue, prompt: str) -> Run:
    return queue.ask(ASKED.model_copy(update={"prompt": prompt}), prompt.encode())


def ended(run: Run) -> RunRecord:
    """The record of a run once it has ended."""
    while not run.ended:
        threading.Event().wait(0.005)
    return run.record


def test_runs_are_answered_in_order_and_each_says_how_many_are_ahead(tmp_path: Path):
    queue, answer = opened(tmp_path / "runs"), Answering()
    line = [asking(queue, name) for name in "abc"]
    assert [queue.ahead_of(run) for run in line] == [0, 1, 2]
    assert queue.busy
    queue.start(answer)
    answer.go.set()
    assert [ended(run).result for run in line] == [f"answer to {name} about b'{name}'" for name in "abc"]
    assert answer.prompts == ["a", "b", "c"]
    assert {run.record.remark for run in line} == {"a remark"}
    queue.close()
    assert not queue.busy
    assert all(queue.picture(run.id) is None for run in line)  # kept with the answer now


def test_a_failure_is_told_in_its_own_words_or_by_the_log_and_the_next_is_answered(tmp_path: Path):
    queue, answer = opened(tmp_path / "runs"), Answering()
    answer.go.set()
    queue.start(answer)
    bad, worse, good = (asking(queue, name) for name in ("bad", "worse", "good"))
    assert ended(good).state == "finished"
    assert (bad.record.state, bad.record.problem) == ("failed", "It is bad.")
    assert (worse.record.state, worse.record.problem) == ("failed", WENT_WRONG)
    queue.close()


def test_stop_ends_one_that_waits_at_once_and_tells_one_that_is_answered(tmp_path: Path):
    queue, answer = opened(tmp_path / "runs"), Answering()
    queue.start(answer)
    first, second, third = (asking(queue, name) for name in "abc")
    answer.begun.wait(30)
    queue.stop(second.id)
    assert second.record.state == "stopped"
    assert queue.ahead_of(third) == 1
    queue.stop(first.id)
    assert ended(first).state == "stopped"
    answer.go.set()
    assert ended(third).result == "answer to c about b'c'"
    queue.stop(third.id)
    assert third.record.state == "finished"
    queue.close()


def test_one_that_is_stopped_from_within_is_stopped(tmp_path: Path):
    def answer(run: Run, original: bytes | None) -> Generator[str, None, str | None]:
        yield "begun"
        raise StopRequested("stopped")

    queue = opened(tmp_path / "runs")
    queue.start(answer)
    assert ended(asking(queue, "a")).state == "stopped"
    queue.close()


def test_what_had_not_ended_is_in_line_again_after_a_restart(tmp_path: Path):
    queue, answer = opened(tmp_path / "runs"), Answering()
    queue.start(answer)
    line = [asking(queue, name) for name in "abc"]
    answer.begun.wait(30)
    queue.close()
    again = opened(tmp_path / "runs")
    answer.go.set()
    again.start(answer)
    for run in line:
        assert (
            ended(again.get(run.id)).result
            == f"answer to {run.record.asked.prompt} about {run.record.asked.prompt.encode()!r}"
        )
        assert again.get(run.id).record.begun == 1
    again.close()
    kept = opened(tmp_path / "runs")
    assert [kept.get(run.id).record.state for run in line] == ["finished"] * 3
    kept.close()


KILLED = """
import os, sys
from pathlib import Path
from forwardinf.jobs.queue import open_queue
def answer(run, original):
    yield "begun"
    os.kill(os.getpid(), 9)
queue = open_queue(Path(sys.argv[1]), Path(sys.argv[1]))
queue.start(answer)
import threading
threading.Event().wait(60)
"""


def test_one_that_ends_the_process_twice_is_not_tried_again(tmp_path: Path):
    queue = opened(tmp_path / "runs")
    deadly = asking(queue, "deadly")
    queue.close()
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "runs")]).returncode == -9
    queue = opened(tmp_path / "runs")
    assert (queue.get(deadly.id).record.state, queue.get(deadly.id).record.problem) == ("failed", ENDED_THE_APP)
    assert not queue.busy
    queue.close()


def test_two_apps_do_not_answer_each_others_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    first = opened(tmp_path / "runs")
    waiting = asking(first, "a")
    second = opened(tmp_path / "runs")
    assert "Another app answers" in caplog.text
    with pytest.raises(MissingAsset):
        second.get(waiting.id)
    asking(second, "b")
    assert first.ahead_of(waiting) == 0
    first.close()
    second.close()


@pytest.mark.parametrize("wrong", ["", "0" * 32, "../../etc/passwd", "A" * 32])
def test_an_id_that_is_none_is_refused(tmp_path: Path, wrong: str):
    queue = opened(tmp_path / "runs")
    with pytest.raises(MissingAsset, match="no question"):
        queue.get(wrong)
    queue.close()


def test_what_cannot_be_read_is_left_out_and_old_runs_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runs, "KEPT", 2)
    folder = RunFolder.open(tmp_path / "runs")
    records = [RunRecord.new(ASKED).model_copy(update={"state": "finished", "result": str(i)}) for i in range(4)]
    for record in records:
        folder.add(record, None)
    (folder.folder / records[3].id / "run.json").write_text("{")
    assert [record.result for record in folder.read()] == ["1", "2"]
    assert not (folder.folder / records[0].id).exists()
    assert (folder.folder / records[3].id).exists()
    folder.close()


def test_a_run_that_cannot_be_kept_is_not_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    queue = opened(tmp_path / "runs")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        asking(queue, "a")
    assert not queue.busy
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".lock"]
    queue.close()
