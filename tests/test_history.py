"""The list of kept answers: searched, filtered, read once, and deleted whole."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from made_records import match, record

from forwardinf.errors import InvalidRequest, MissingAsset
from forwardinf.files import atomic
from forwardinf.records import history
from forwardinf.records.history import History, Wanted
from forwardinf.records.store import FolderStore


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore.open(tmp_path / "results")


def keep(store: FolderStore, prompt: str, day: int = 1, stand_out: int | None = 1, **query: str) -> str:
    """The id of a kept answer of that day."""
    made = record(
        match(caption=f"{prompt}, OpenMoji style"),
        query={"prompt": prompt, "file_name": "photo.png", **query},
        answered_at=datetime(2026, 1, day, tzinfo=UTC),
        confidence={"stand_out": stand_out},
        verdict=f"{prompt} stands out" if stand_out else "No training image stands out.",
    )
    return store.save(made, "", b"query", b"png").id


def found(store: FolderStore, **wanted: str) -> list[str]:
    return [kept.prompt for kept in Wanted(**wanted).of(History(store).answers())]


def test_the_latest_comes_first_and_says_what_was_asked_and_found(store: FolderStore):
    ids = [keep(store, prompt, day) for prompt, day in (("apple", 2), ("pear", 3), ("plum", 1))]
    listed = History(store).answers()
    assert [kept.id for kept in listed] == [ids[1], ids[0], ids[2]]
    pear = listed[0]
    assert (pear.prompt, pear.file_name, pear.verdict, pear.best) == (
        "pear",
        "photo.png",
        "pear stands out",
        "pear, OpenMoji style",
    )
    assert pear.answered_at == datetime(2026, 1, 3, tzinfo=UTC)
    assert (pear.index, pear.index_fingerprint, pear.method, pear.outcome) == ("i", "if", "forward_inf", "stands out")


def test_words_and_outcomes_narrow_the_list(store: FolderStore):
    keep(store, "red apple", 3)
    keep(store, "green pear", 2, stand_out=0)
    keep(store, "blue plum", 1, stand_out=None, file_name="scan.png")
    assert found(store) == ["red apple", "green pear", "blue plum"]
    assert found(store, text="gre") == ["green pear"]
    assert found(store, text="openmoji app") == ["red apple"]
    assert found(store, text="scan") == ["blue plum"]
    assert found(store, text="apple pear") == []
    assert found(store, outcome="nothing stands out") == ["green pear"]
    assert found(store, outcome="not known") == ["blue plum"]
    assert found(store, index="another") == []


def test_an_answer_is_read_once_and_again_where_it_changed(store: FolderStore, monkeypatch: pytest.MonkeyPatch):
    reads: list[str] = []
    read = history._kept_of
    monkeypatch.setattr(history, "_kept_of", lambda result_id, kept: reads.append(result_id) or read(result_id, kept))
    first, kept = keep(store, "apple"), History(store)
    kept.answers()
    second = keep(store, "pear")
    kept.answers()
    assert reads == [first, second]
    (store.folder / first / "record.json").write_text("{}")
    assert [one.id for one in kept.answers()] == [second]


def test_what_is_no_answer_is_left_out(store: FolderStore):
    kept = keep(store, "apple")
    for name, content in (("0" * 16, "["), ("1" * 16, "[]"), ("2" * 16, '{"query": 1}')):
        (store.folder / name).mkdir()
        (store.folder / name / "record.json").write_text(content)
    assert [one.id for one in History(store).answers()] == [kept]


def test_an_answer_is_deleted_whole_or_not_at_all(store: FolderStore, monkeypatch: pytest.MonkeyPatch):
    kept, result_id = History(store), keep(store, "apple")
    with monkeypatch.context() as refused:
        refused.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        with pytest.raises(InvalidRequest, match="could not be deleted"):
            kept.delete(result_id)
    assert store.load(result_id).original == b"query"
    kept.delete(result_id)
    assert kept.answers() == []
    assert [path.name for path in store.folder.iterdir()] == [".key"]
    for gone in (result_id, "../x"):
        with pytest.raises(MissingAsset):
            kept.delete(gone)


def test_a_folder_whose_removal_is_cut_off_is_gone_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    monkeypatch.setattr(atomic.shutil, "rmtree", lambda *_, **__: None)
    atomic.remove_folder(tmp_path / "kept")
    monkeypatch.undo()
    assert not (tmp_path / "kept").exists()
    atomic.clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []
