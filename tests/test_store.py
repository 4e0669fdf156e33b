"""Kept answers: whole or absent, one link for one question."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from made_records import record
from test_records import KEPT

from forwardinf.errors import DamagedAsset, MissingAsset
from forwardinf.files.atomic import write_once
from forwardinf.records.store import IN_MEMORY, KEY, FolderStore, asked_of, id_of


def test_a_kept_answer_comes_back_whole(tmp_path: Path):
    store = FolderStore(tmp_path / "results")
    kept = store.save(record(), "id,rank\r\n", b"original", b"png")
    assert store.load(kept.id) == kept
    assert (kept.record, kept.csv, kept.original, kept.picture) == (record(), "id,rank\r\n", b"original", b"png")
    assert kept.original_path.read_bytes() == b"original"
    assert [path.name for path in store.folder.iterdir()] == [kept.id]


def test_what_an_earlier_version_kept_is_loaded(tmp_path: Path):
    shutil.copytree(KEPT, tmp_path / KEPT.name)
    kept = FolderStore(tmp_path).load(KEPT.name)
    assert kept.record.query.file_name == "patch.png"
    assert kept.csv.startswith("id,rank,score")


def test_nobody_who_knows_what_was_asked_knows_the_link(tmp_path: Path):
    store, other = FolderStore.open(tmp_path / "a"), FolderStore.open(tmp_path / "b")
    kept, elsewhere = (one.save(record(), "csv", b"original", b"png") for one in (store, other))
    assert len({kept.id, elsewhere.id, id_of(record())}) == 3
    with pytest.raises(MissingAsset):
        store.load(id_of(record()))
    again = FolderStore.open(tmp_path / "a")
    assert again.find(asked_of(record())) == again.save(record(), "other", b"original", b"png") == kept
    assert (tmp_path / "a" / KEY).stat().st_mode & 0o777 == 0o600


def test_an_answer_from_before_there_was_a_key_keeps_its_link(tmp_path: Path):
    kept = FolderStore(tmp_path).save(record(), "csv", b"original", b"png")
    store = FolderStore.open(tmp_path)
    assert store.load(id_of(record())) == store.find(asked_of(record())) == kept
    assert store.save(record(), "other", b"original", b"png") == kept


def test_without_room_for_a_key_links_last_until_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "results").write_text("in the way")
    store, other = FolderStore.open(tmp_path / "results"), FolderStore.open(tmp_path / "results")
    held = store.save(record(), "csv", b"original", b"png")
    assert store.find(asked_of(record())) == store.load(held.id) == held
    assert other.save(record(), "csv", b"original", b"png").id != held.id
    assert "Links to new answers change when the app ends" in caplog.text


def test_processes_that_start_together_share_a_key(tmp_path: Path):
    first = FolderStore.open(tmp_path)
    write_once(tmp_path / KEY, b"another")
    assert FolderStore.open(tmp_path).key == first.key
    assert sorted(path.name for path in tmp_path.iterdir()) == [KEY]


@pytest.mark.parametrize("wrong", ["", "..", "../..", "0123456789abcdef", "0123456789ABCDEF", "a/b"])
def test_a_link_that_names_no_answer_is_refused(tmp_path: Path, wrong: str):
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(MissingAsset):
        FolderStore(tmp_path / "results").load(wrong)


@pytest.mark.parametrize("name", ["record.json", "scores.csv", "query.bin", "query.png"])
def test_a_kept_file_that_changed_is_refused_by_name(tmp_path: Path, name: str):
    store = FolderStore(tmp_path)
    kept = store.save(record(), "id,score\n1,3.25\n", b"original 3.25", b"png 3.25")
    file = kept.folder / name
    file.write_bytes(file.read_bytes().replace(b"3.25", b"3.26", 1))
    with pytest.raises(DamagedAsset, match=f"“{name}” of the result {kept.id}"):
        store.load(kept.id)
    file.unlink()
    with pytest.raises(DamagedAsset, match=kept.id):
        store.load(kept.id)


@pytest.mark.parametrize("sums", [None, b"", b"null", b"{}", b'{"files": null}', b'{"files": {}}', b'{"files": []}'])
def test_an_answer_without_usable_checksums_is_refused(tmp_path: Path, sums: bytes | None):
    store = FolderStore(tmp_path)
    kept = store.save(record(), "", b"", b"")
    path = kept.folder / "manifest.json"
    path.unlink() if sums is None else path.write_bytes(sums)
    with pytest.raises(DamagedAsset):
        store.load(kept.id)


def test_a_result_that_is_not_a_folder_is_missing(tmp_path: Path):
    (tmp_path / ("00" * 8)).write_text("")
    with pytest.raises(MissingAsset):
        FolderStore(tmp_path).load("00" * 8)


# Keeping again


def test_the_first_answer_stays_when_it_is_kept_again(tmp_path: Path):
    store = FolderStore(tmp_path)
    first = store.save(record(), "first", b"original", b"first")
    again = store.save(record(query={"file_name": "someone else’s.png"}, seconds=9.0), "second", b"original", b"second")
    assert again == first == store.load(first.id)
    assert again.record.query.file_name == "a.png"


def test_another_process_that_was_faster_keeps_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, second = FolderStore(tmp_path), FolderStore(tmp_path)
    rename = Path.rename

    def rename_late(path: Path, target: Path) -> Path:
        monkeypatch.undo()
        first.save(record(seconds=1.0), "first", b"", b"")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_late)
    kept = second.save(record(seconds=2.0), "second", b"", b"")
    assert (kept.csv, kept.record.seconds, kept.not_kept) == ("first", 1.0, "")
    assert [path.name for path in tmp_path.iterdir()] == [kept.id]


def test_a_damaged_answer_is_made_anew(tmp_path: Path):
    store = FolderStore(tmp_path)
    kept = store.save(record(), "first", b"original", b"png")
    (kept.folder / "scores.csv").write_text("damaged")
    again = store.save(record(), "second", b"original", b"png")
    assert store.load(kept.id) == again
    assert again.csv == "second"
    assert [path.name for path in tmp_path.iterdir()] == [kept.id]


# What can go wrong

CHANGING = ("open", "os.mkdir", "os.rename", "os.chmod", "os.remove", "os.rmdir")  # events that Python's audit tells of


def in_a_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process; its exit status, negative for a signal, 0 where nothing was raised."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def at_call(number: int, strike: Callable[[str, tuple], None]) -> list[int]:
    """Let `strike` be called before each call that changes files from the given one on; returns how many there were.

    For the rest of the process, so only in a child.
    """
    calls = [0]

    def hook(event: str, arguments: tuple) -> None:
        if event in CHANGING and not (event == "open" and arguments[1] in ("r", "rb", None)):
            calls[0] += 1
            if calls[0] >= number:
                strike(event, arguments)

    sys.addaudithook(hook)
    return calls


def calls_of(work: Callable[[], object]) -> int:
    """How often `work` changes files, counted in a child."""
    return in_a_child(lambda: os._exit((at_call(10**9, lambda *_: None), work())[0][0]))


def kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("before", ["absent", "damaged", "whole"])
def test_a_kill_at_any_point_of_a_save_leaves_whole_answers_only(tmp_path: Path, before: str):
    made = FolderStore(tmp_path / "made").save(record(), "csv", b"original", b"png")
    points = calls_of(lambda: FolderStore(tmp_path / "counted").save(record(), "csv", b"original", b"png"))
    assert points > 10
    for point in range(1, points + 3 * (before == "damaged")):
        folder = tmp_path / str(point)
        earlier = FolderStore(folder).save(record(query={"prompt": "earlier"}), "earlier", b"original", b"png")
        if before != "absent":
            shutil.copytree(made.folder, folder / made.id)
        if before == "damaged":
            (folder / made.id / "scores.csv").write_text("damaged")

        def save(folder: Path = folder, point: int = point) -> None:
            at_call(point, kill)
            FolderStore(folder).save(record(), "csv", b"original", b"png")

        assert in_a_child(save) == (0 if before == "whole" else -signal.SIGKILL)  # then nothing has to be written
        store = FolderStore.open(folder)
        assert store.load(earlier.id) == earlier
        assert {path.name for path in folder.iterdir()} <= {KEY, earlier.id, id_of(record())}
        assert _state(store, made.id) in {"absent", "whole", before} - ({"absent"} if before == "whole" else set())
        again = store.save(record(), "csv", b"original", b"png")
        assert (again.not_kept, _state(store, again.id)) == ("", "whole")


def _state(store: FolderStore, result_id: str) -> str:
    try:
        return "whole" if store.load(result_id).csv == "csv" else "other"
    except MissingAsset:
        return "absent"
    except DamagedAsset:
        return "damaged"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_an_answer_that_cannot_be_kept_is_returned_all_the_same(tmp_path: Path, error: int):
    points = calls_of(lambda: FolderStore(tmp_path / "counted").save(record(), "csv", b"original", b"png"))

    def fail(event: str, arguments: tuple) -> None:
        if event in ("open", "os.mkdir") and str(tmp_path) in str(arguments[0]):
            raise OSError(error, os.strerror(error))

    def save(folder: Path, point: int) -> None:
        store, earlier = FolderStore(folder), id_of(record(query={"prompt": "earlier"}))
        at_call(point, fail)
        answer = store.save(record(), "csv", b"original", b"png")
        assert (answer.record, answer.csv, answer.original, answer.picture) == (record(), "csv", b"original", b"png")
        if answer.not_kept:
            assert f"could not be kept ({os.strerror(error)})" in answer.not_kept
            assert (answer.folder, answer.original_path) == (None, None)
            assert [path.name for path in folder.iterdir()] == [earlier]
        assert store.load(answer.id) == answer
        assert store.load(earlier).csv == "earlier"
        os._exit(7 if answer.not_kept else 0)

    outcomes = []
    for point in range(1, points + 1):
        folder = tmp_path / str(point)
        FolderStore(folder).save(record(query={"prompt": "earlier"}), "earlier", b"original", b"png")
        outcomes.append(in_a_child(lambda folder=folder, point=point: save(folder, point)))
    assert set(outcomes) == {7, 0}
    assert outcomes == sorted(outcomes, reverse=True)  # from some point on nothing has to be written any more


def test_a_file_that_cannot_grow_is_not_kept_half(tmp_path: Path):
    def save() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        store = FolderStore(tmp_path / "results")
        answer = store.save(record(), "csv", b"original" * 1000, b"png")
        assert os.strerror(errno.EFBIG) in answer.not_kept
        assert list(store.folder.iterdir()) == []

    assert in_a_child(save) == 0


def test_an_answer_in_memory_is_kept_once_there_is_room(tmp_path: Path):
    (tmp_path / "results").write_text("in the way")
    store = FolderStore(tmp_path / "results")
    held = store.save(record(), "csv", b"original", b"png")
    assert "could not be kept" in held.not_kept
    (tmp_path / "results").unlink()
    kept = store.save(record(), "csv", b"original", b"png")
    assert (kept.not_kept, store.load(kept.id)) == ("", kept)
    assert FolderStore(tmp_path / "results").load(held.id) == kept


def test_only_the_last_answers_stay_in_memory(tmp_path: Path):
    (tmp_path / "results").write_text("in the way")
    store = FolderStore(tmp_path / "results")
    ids = [store.save(record(query={"prompt": str(n)}), "", b"", b"").id for n in range(IN_MEMORY + 1)]
    with pytest.raises(MissingAsset):
        store.load(ids[0])
    assert all(store.load(result_id).not_kept for result_id in ids[1:])


# Ids


def test_every_ingredient_of_an_id_changes_it_and_nothing_else_does():
    changes = {
        "version": "1",
        "query": [{"sha256": "11" * 32}, {"prompt": "another"}],
        "method": [{"name": "mucs"}, {"settings": {"steps": 2}}, {"settings": {"steps": 1, "seed": 1}}],
        "model": [{"fingerprint": "g"}, {"tunable": "attention"}],
        "index": [{"fingerprint": "ig"}],
    }
    weighed = {"images": 500, "first": 10, "ended": "the time was up", "overlooked": 0.3}
    changes["weighed"] = [weighed, {**weighed, "first": 20}, {**weighed, "ended": "it was stopped"}]
    assert changes.keys() == asked_of(record(weighed=weighed)).parts.keys()
    ids = [
        id_of(record(**{part: change}))
        for part, every in changes.items()
        for change in (every if isinstance(every, list) else [every])
    ]
    assert len({id_of(record()), *ids}) == len(ids) + 1
    same = record(
        seconds=9.0,
        answered_at=None,
        query={"file_name": "b.png", "notes": ("Turned upright.",)},
        model={"name": "n"},
        index={"name": "j"},
    )
    assert id_of(same) == id_of(record())
