"""Requests at the edges of what can be asked: a right answer or a clear message, and never a silently shorter list."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution.answer import answer_of
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.build_sketch import build_sketch
from forwardinf.attribution.shortlist import Effort
from forwardinf.cli import main as command_line
from forwardinf.errors import InvalidRequest
from forwardinf.examples.metadata import training_images
from forwardinf.files.rows import RowCache
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models.sd import StableDiffusion
from forwardinf.records.recording import record_of
from forwardinf.types import ModelSpec

METHOD = ForwardInf(size_budget=0.01)
PLAN = BuildPlan(draws=2, fisher_images=2, fisher_draws=1)


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))


def of_so_many(model: StableDiffusion, folder: Path, count: int) -> Attributor:
    (folder / "images").mkdir()
    source = training_images(write_patches(folder / "images", count))
    return Attributor(model, build_sketch(model, build_index(model, source, folder / "index", PLAN)))


@pytest.mark.parametrize(("count", "asked"), [(5, 5), (5, 6), (5, 10**6), (1, 1), (1, 10)])
@pytest.mark.parametrize("prompt", ["patch 0", ""])
def test_as_many_images_as_there_are_are_listed_where_more_are_asked_for(
    model: StableDiffusion, tmp_path: Path, count: int, asked: int, prompt: str
):
    attributor = of_so_many(model, tmp_path, count)
    query = attributor.query(attributor.index.thumbnails.picture(attributor.index.thumbnails.images[0]), prompt)
    *_, last = attributor.follow(query, METHOD, Effort.to_decide(asked))
    answer = answer_of(attributor, query, METHOD, last)
    record = record_of(answer, attributor.index, asked)
    assert [match.rank for match in record.results] == list(range(1, count + 1))
    assert (answer.missed, record.weighed) == ((), None)
    assert all(match.score == match.score for match in record.results)  # numbers


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_time_limit_that_leaves_no_time_is_refused(seconds: float):
    with pytest.raises(InvalidRequest, match=r"time limit is .*; it must be above 0"):
        Effort.to_decide(10, seconds)


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "kept/rows.npy")


def test_a_cache_without_room_on_the_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch):
    """Not a signal that ends the process, as writing to a mapped file without room would be."""
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="No space left"):
        RowCache.open(tmp_path / "rows.npy", 100, 10)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert RowCache.open(tmp_path / "rows.npy", 100, 10).get(3) is None


def test_a_full_disk_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(command_line, "app", no_room)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "disk on which “rows.npy” was to be written is full. Make room" in told
    assert "kept/" not in told

    def other() -> None:
        raise OSError(errno.EACCES, "denied", "x")

    monkeypatch.setattr(command_line, "app", other)
    with pytest.raises(PermissionError):
        command_line.main()
