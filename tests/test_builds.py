"""Indexes built by the server: from hostile archives not at all, and through every end of the process."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import write_patches
from forwardinf.config import Settings
from forwardinf.errors import InvalidRequest, MissingAsset
from forwardinf.examples import unpacking
from forwardinf.examples.unpacking import unpack
from forwardinf.index.store import Index
from forwardinf.jobs.builds import AskedBuild, Build, Builds
from forwardinf.web.build_page import AskedFor, BuildPages


def archive(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries:
            made.writestr(name, content)
    return path


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def test_an_archive_is_unpacked_whole(tmp_path: Path):
    unpack(archive(tmp_path / "a.zip", ("a.txt", b"a"), ("1_fruit/b.png", b"b"), ("empty/", b"")), tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"a.txt", "1_fruit/b.png"}


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("../out.txt", "leads out of the folder"),
        ("a/../../out.txt", "leads out of the folder"),
        ("/etc/out.txt", "leads out of the folder"),
        ("..\\out.txt", "leads out of the folder"),
        ("C:out.txt", "leads out of the folder"),
        (link("link.png"), "link or a device"),
    ],
)
def test_an_entry_that_leads_elsewhere_is_refused_by_name(tmp_path: Path, entry: str | zipfile.ZipInfo, named: str):
    with pytest.raises(InvalidRequest, match=named):
        unpack(archive(tmp_path / "a.zip", ("a.png", b"a"), (entry, b"/etc/passwd")), tmp_path / "below" / "out")
    assert not (tmp_path / "below" / "out").exists()
    assert not (tmp_path / "out.txt").exists()


def test_a_bomb_is_refused_by_what_it_says_and_by_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpacking, "AT_LEAST", 1000)
    bomb = archive(tmp_path / "a.zip", ("a.png", bytes(10**7)))
    with pytest.raises(InvalidRequest, match="unpacks to 10 MB or more"):
        unpack(bomb, tmp_path / "out")
    monkeypatch.setattr(unpacking, "_room", lambda *_: 5_000_000)  # as if the sizes that it states were small
    with pytest.raises(InvalidRequest, match="unpacks to 5 MB or more"):
        unpack(bomb, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_archive_or_has_a_file_twice_is_refused(tmp_path: Path):
    (tmp_path / "no.zip").write_bytes(b"no archive")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        unpack(tmp_path / "no.zip", tmp_path / "out")
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = archive(tmp_path / "a.zip", ("a.png", b"a"), ("a.png", b"b"))
    with pytest.raises(InvalidRequest, match=r"holds “a\.png” twice"):
        unpack(twice, tmp_path / "out")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"), 12)


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_build_goes_on_after_its_process_was_killed_it_was_stopped_and_its_server_ended(
    tmp_path: Path, tiny_checkpoint: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    children, served, kept = list[int](), list[str](), threading.Event()
    popen = __import__("subprocess").Popen

    class Watched(popen):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)
            children.append(self.pid)

    monkeypatch.setattr("forwardinf.jobs.builds.subprocess.Popen", Watched)

    def finished(build: Build) -> None:
        served.append(Index.open(build.index).fingerprint)
        kept.set()

    first = Builds(tmp_path, finished)
    asked = AskedBuild(name="patches", source=str(pictures), model=str(tiny_checkpoint))
    build = first.ask(first.place(), asked)
    first.start()
    until(lambda: build.stage)
    os.kill(children[0], signal.SIGKILL)  # it is begun again by itself
    until(lambda: len(children) == 2)
    first.stop(build.record.id)
    until(lambda: build.record.state == "stopped")
    first.resume(build.record.id)
    until(lambda: len(children) == 3)
    first.close()  # as at the server's end; what is under way waits for the next
    assert build.record.state == "waiting"
    second = Builds(tmp_path, finished)
    second.start()
    assert kept.wait(240)
    second.close()
    assert [one.record.state for one in second.all()] == ["finished"]
    assert (len(served), len(children)) == (1, 4)
    assert "metadata.jsonl" in (build.index / "about.json").read_text()


def test_a_build_that_cannot_be_says_why(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "empty").mkdir()
    builds = Builds(tmp_path / "builds", lambda build: None)
    build = builds.ask(builds.place(), AskedBuild(name="x", source=str(tmp_path / "empty"), model=str(tiny_checkpoint)))
    builds.start()
    until(lambda: build.ended)
    builds.close()
    assert (build.record.state, "empty" in build.record.problem) == ("failed", True)


@pytest.fixture
def pages(tmp_path: Path) -> BuildPages:
    (tmp_path / "root" / "set").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root" / "way-out").symlink_to(tmp_path / "elsewhere")
    builds = Builds(tmp_path / "builds", lambda build: None)
    return BuildPages(builds, Settings(build_root=str(tmp_path / "root")), ())


def test_only_what_lies_below_the_roots_is_built_from(pages: BuildPages, tmp_path: Path):
    root = tmp_path / "root"
    build = pages._asked(AskedFor(name="My set!", source=str(root / "set")))
    assert (build.index.name, build.record.asked.source) == ("My-set", str(root / "set"))
    for source in ("", "/etc", str(root / ".." / "elsewhere"), str(root / "way-out"), str(root / "none")):
        with pytest.raises(InvalidRequest, match="not below a folder that may be named"):
            pages._asked(AskedFor(name="x", source=source))
    with pytest.raises(InvalidRequest, match="model “/etc”"):
        pages._asked(AskedFor(name="x", source=str(root / "set"), model="/etc"))
    with pytest.raises(InvalidRequest, match="not known here"):
        pages._asked(AskedFor(name="x", upload="../x"))
    with pytest.raises(InvalidRequest, match="Name the index"):
        pages._asked(AskedFor(name="..", source=str(root / "set")))
    with pytest.raises(MissingAsset):
        pages.builds.stop("none")


def test_building_is_off_unless_folders_are_named_and_strangers_are_kept_out():
    assert not Settings().may_build
    assert Settings(build_root="/sets").may_build
    assert Settings(build_root="/sets", host="0.0.0.0").may_build  # people sign in
    assert not Settings(build_root="/sets", host="0.0.0.0", insecure=True).may_build
