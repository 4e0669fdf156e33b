"""Files and folders appear whole or not at all, and may be read by whom the umask lets read them."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from forwardinf.files.atomic import PREFIX, clear_leftovers, write_json, write_text, writing, writing_folder
from forwardinf.files.rows import RowCache
from forwardinf.index.curvature_file import FISHER, write_fisher
from forwardinf.index.neighbours import write_neighbours
from forwardinf.index.shards import Shard, write_shard
from forwardinf.types import LatentBatch


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(f"{PREFIX}*"))


def test_a_file_takes_its_place_in_the_end(tmp_path: Path):
    path = tmp_path / "made" / "file.txt"
    write_text(path, "first")
    with writing(path) as aside:
        aside.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert not leftovers(path.parent)


def test_text_keeps_its_line_ends_and_its_letters(tmp_path: Path):
    write_text(tmp_path / "a.csv", "é\r\nb\n")
    assert (tmp_path / "a.csv").read_bytes() == b"\xc3\xa9\r\nb\n"
    write_json(tmp_path / "a.json", {"a": "é"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "a": "é"\n}\n'


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "file.txt"
    write_text(path, "first")
    with pytest.raises(ZeroDivisionError), writing(path) as aside:
        aside.write_text(f"half {1 / 0}")
    assert path.read_text() == "first"
    assert not leftovers(tmp_path)


def test_a_writer_that_writes_nothing_is_an_error_and_changes_nothing(tmp_path: Path):
    write_text(tmp_path / "file.txt", "first")
    with pytest.raises(FileNotFoundError), writing(tmp_path / "file.txt"):
        pass
    assert (tmp_path / "file.txt").read_text() == "first"
    assert not leftovers(tmp_path)


def test_a_folder_takes_its_place_in_the_end_and_the_first_one_stays(tmp_path: Path):
    path = tmp_path / "results" / "1"
    with writing_folder(path) as aside:
        (aside / "record.json").write_text("first")
        assert not path.exists()
    with writing_folder(path) as aside:
        (aside / "record.json").write_text("second")
    assert (path / "record.json").read_text() == "first"
    assert not leftovers(path.parent)


def test_a_folder_is_replaced_where_that_is_asked(tmp_path: Path):
    path = tmp_path / "model"
    with writing_folder(path) as aside:
        (aside / "old").write_text("")
    with writing_folder(path, replace=True) as aside:
        (aside / "new").write_text("")
        assert (path / "old").exists()
    assert [entry.name for entry in path.iterdir()] == ["new"]
    assert not leftovers(tmp_path)


def test_a_folder_that_fails_leaves_the_one_that_was_there(tmp_path: Path):
    path = tmp_path / "model"
    with writing_folder(path) as aside:
        (aside / "old").write_text("")
    with pytest.raises(ZeroDivisionError), writing_folder(path, replace=True) as aside:
        (aside / f"new {1 / 0}").mkdir()
    assert (path / "old").exists()
    assert not leftovers(tmp_path)


@contextmanager
def killed_while_writing(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    code = """
        import sys, time
        from pathlib import Path
        from forwardinf.files.atomic import writing_folder
        with writing_folder(Path(sys.argv[1]) / "result") as aside:
            (aside / "half").write_text("")
            print("writing", flush=True)
            time.sleep(600)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(folder)], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"writing\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_what_a_killed_writer_left_is_cleared_but_not_what_is_being_written(tmp_path: Path):
    (tmp_path / "kept").mkdir()
    with killed_while_writing(tmp_path) as process:
        clear_leftovers(tmp_path)
        assert len(leftovers(tmp_path)) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(leftovers(tmp_path)) == 1
        clear_leftovers(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def shard() -> Shard:
    return Shard(LatentBatch(("a",), torch.zeros(1, 4, 8, 8), torch.zeros(1, 3)), torch.ones(1, 2), torch.ones(1, 2))


def test_a_file_system_without_locks_is_written_to_and_not_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with writing(tmp_path / "file.txt") as aside:
        aside.write_text("whole")
        clear_leftovers(tmp_path)
        assert aside.read_text() == "whole"
    assert (tmp_path / "file.txt").read_text() == "whole"


WRITERS: dict[str, Callable[[Path], object]] = {
    "shards/00000.safetensors": lambda folder: write_shard(folder, 0, shard()),
    FISHER: lambda folder: write_fisher(folder, {"weight": torch.ones(3)}),
    "neighbours.faiss": lambda folder: write_neighbours(folder, torch.ones(2, 3)),
    "rows.npy": lambda folder: RowCache.open(folder / "rows.npy", 2, 3),
    "file.json": lambda folder: write_json(folder / "file.json", {}),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_mode_that_the_umask_asks_for(tmp_path: Path, name: str, mask: int, mode: int):
    os.umask(mask)
    WRITERS[name](tmp_path)
    assert (tmp_path / name).stat().st_mode & 0o777 == mode


def test_folders_have_it_too_whoever_wrote_their_files(tmp_path: Path):
    with writing_folder(tmp_path / "model") as aside:
        (aside / "unet").mkdir(mode=0o700)
        save_file({"weight": torch.ones(1)}, aside / "unet" / "weights.safetensors")
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path, *tmp_path.rglob("*")) if p != tmp_path}
    assert modes == {"model": 0o755, "unet": 0o755, "weights.safetensors": 0o644}


def test_nothing_else_writes_aside_by_itself():
    """`os.replace` and temporary files for what is kept are the business of one module."""
    package = Path(__file__).parent.parent / "forwardinf"
    for path in package.rglob("*.py"):
        if path.name != "atomic.py":
            source = path.read_text(encoding="utf-8")
            assert not any(name in source for name in ("os.replace", "NamedTemporaryFile")), path


def test_a_full_disk_is_told_as_one_whoever_finds_it(tmp_path: Path):
    told = f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)"
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as full, writing(tmp_path / "a"):
        raise RuntimeError(told)
    assert full.value.errno == errno.ENOSPC
    assert full.value.filename == str(tmp_path / "a")
    with pytest.raises(RuntimeError, match="another"), writing(tmp_path / "a"):
        raise RuntimeError("another")
    assert not list(tmp_path.iterdir())
