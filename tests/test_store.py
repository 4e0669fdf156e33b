"""Kept answers: whole or absent, one link for one question."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_records import record
from test_records import KEPT

from forwardinf.errors import DamagedAsset, MissingAsset
from forwardinf.records.store import FolderStore, asked_of, id_of


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


@pytest.mark.parametrize("wrong", ["", "..", "../..", "0123456789abcdef", "0123456789ABCDEF", "a/b"])
def test_a_link_that_names_no_answer_is_refused(tmp_path: Path, wrong: str):
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(MissingAsset):
        FolderStore(tmp_path / "results").load(wrong)


def test_a_damaged_record_is_refused(tmp_path: Path):
    store = FolderStore(tmp_path)
    kept = store.save(record(), "", b"", b"")
    (kept.folder / "record.json").write_text("{")
    with pytest.raises(DamagedAsset, match=kept.id):
        store.load(kept.id)


# Ids


def test_every_ingredient_of_an_id_changes_it_and_nothing_else_does():
    changes = {
        "version": "1",
        "query": [{"sha256": "11" * 32}, {"prompt": "another"}],
        "method": [{"name": "mucs"}, {"settings": {"steps": 2}}, {"settings": {"steps": 1, "seed": 1}}],
        "model": [{"fingerprint": "g"}, {"tunable": "attention"}],
        "index": [{"fingerprint": "ig"}],
    }
    assert changes.keys() == asked_of(record()).keys()
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
