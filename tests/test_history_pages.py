"""The pages of the history: kept answers, two of them side by side, and what may not be deleted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from made_cases import CASE, answer, made_case, opened, png
from made_records import match, record

from forwardinf.config import Settings
from forwardinf.records.history import History
from forwardinf.records.record import Record
from forwardinf.records.store import FolderStore
from forwardinf.web import cases, history
from forwardinf.web.build import review_pages


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "results")


def kept(store: FolderStore, made: Record) -> str:
    return store.save(made, "id,rank\r\n", png(0), png(1)).id


def client_of(store: FolderStore, **parts: object) -> TestClient:
    served = SimpleNamespace(results=store)
    shown = {"history": History(store), "navigation": (("History", "history"),), "url_of": lambda *_: None}
    desk = SimpleNamespace(served=served, **(shown | parts))
    app = FastAPI()
    cases.add_to(app, desk)
    history.add_to(app, desk)
    return TestClient(app, raise_server_exceptions=False)


def test_the_page_lists_fifty_at_a_time_and_escapes_what_others_wrote(store: FolderStore):
    for number in range(51):
        kept(store, record(query={"prompt": f"<b>{number}"}))
    client = client_of(store)
    first, second = (client.get("/history", params={"page": page}).text for page in (1, 2))
    assert "51 answers, page 1 of 2" in first
    assert (first.count("data-pick"), second.count("data-pick")) == (50, 1)
    assert "&lt;b&gt;0" in first + second
    assert "<b>0" not in first + second
    assert client.get("/history", params={"search": "50", "part": "true"}).text.count("data-pick") == 1


def test_two_answers_stand_side_by_side_with_what_they_share_marked(store: FolderStore):
    first = kept(store, record(match(), match(id="only-here", rank=2)))
    second = kept(store, record(match(), query={"prompt": "other"}))
    client = client_of(store)
    page = client.get("/history/two", params={"first": first, "second": second}).text
    assert "1 training image is in both lists" in page
    assert page.count('class="fi-shared"') == 2
    assert client.get("/history/two", params={"first": first, "second": "0" * 16}).status_code == 404


def test_a_sheet_has_what_is_sought_with_the_first_images_of_each(store: FolderStore):
    many = [match(id=f"i{rank}", rank=rank, stands_out=rank == 1) for rank in (1, 2, 3, 4)]
    kept(store, record(*many, query={"prompt": "red snail"}))
    damaged = kept(store, record(query={"prompt": "red crown"}))
    kept(store, record(query={"prompt": "<b>pear"}))
    client = client_of(store, url_of=lambda example_id, _: f"thumbnails/{example_id}.webp")
    whole = client.get("/history/sheet").text
    assert whole.count("<li>") == 3
    assert "&lt;b&gt;pear" in whole
    (store.folder / damaged / "record.json").write_text("{}")
    sheet = client.get("/history/sheet", params={"search": "snail"}).text
    assert [f"thumbnails/i{rank}.webp" in sheet for rank in (1, 2, 3, 4)] == [True, True, True, False]
    assert sheet.count('class="fi-out"') == 1
    assert client.get("/history/sheet").text.count("<li>") == 2


def test_an_answer_is_deleted_unless_a_case_rests_on_it(store: FolderStore, tmp_path: Path):
    database = opened(tmp_path)
    free, (_, (picture,)) = kept(store, record(query={"prompt": "other"})), made_case(database, 0)
    evidence = answer(database, store, picture).id
    client = client_of(store, database=database)
    assert client.post(f"/history/{free}/delete").json() == {"deleted": free}
    assert client.post(f"/history/{free}/delete").status_code == 404
    told = client.post(f"/history/{evidence}/delete")
    assert (told.status_code, CASE in told.json()["detail"]) == (400, True)
    assert [one.id for one in History(store).answers()] == [evidence]


def test_answers_are_sought_by_words_outcome_and_index(store: FolderStore):
    kept(store, record(query={"prompt": "red snail"}, confidence={"stand_out": 0}))
    kept(store, record(query={"prompt": "crown"}, index={"fingerprint": "other"}))
    client = client_of(store)

    def shown(**wanted: str) -> list[bool]:
        page = client.get("/history", params={**wanted, "part": "true"}).text
        return ["red snail" in page, "crown" in page]

    assert shown() == [True, True]
    assert shown(search="snail") == [True, False]
    assert shown(outcome="stands out") == [False, True]
    assert shown(index="other") == [False, True]


@pytest.mark.parametrize(
    ("settings", "has_one"),
    [({}, True), ({"host": "0.0.0.0", "insecure": True}, False), ({"host": "0.0.0.0"}, True)],
    ids=["this machine", "strangers", "signed in"],
)
def test_where_strangers_may_use_the_app_there_is_no_history(settings: dict[str, object], has_one: bool):
    pages = dict(review_pages(Settings(**settings)))
    assert "Cases" in pages
    assert ("History" in pages) is has_one
