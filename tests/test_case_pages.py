"""The reviewers' pages without a browser: what they show, take, refuse and give away."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from made_cases import CASE, answer, made_case, png
from made_records import match

from forwardinf.attribution.attributor import Attributor
from forwardinf.index.store import Index
from forwardinf.jobs.queue import open_queue
from forwardinf.jobs.under_way import UnderWay
from forwardinf.models.registry import load_model
from forwardinf.records.store import FolderStore
from forwardinf.review.cases import load_case, pictures_of
from forwardinf.review.decisions import decide, decisions_of
from forwardinf.review.findings import finding_of
from forwardinf.review.signals import note_answer
from forwardinf.types import ModelSpec
from forwardinf.web import cases
from forwardinf.web.guard.sessions import USER
from forwardinf.web.guard.users import Role, User
from forwardinf.web.served import Served
from forwardinf.web.worker import Worker

PAGE = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def loaded(patches_index: Path, tiny_checkpoint: Path) -> Future[Attributor]:
    loaded: Future[Attributor] = Future()
    loaded.set_result(Attributor(load_model(ModelSpec(str(tiny_checkpoint))), Index.open(patches_index)))
    return loaded


@pytest.fixture
def desk(loaded: Future[Attributor], tiny_checkpoint: Path, tmp_path: Path) -> cases.Desk:
    index, results = loaded.result().index, FolderStore(tmp_path / "results")
    queue = open_queue(tmp_path / "runs", tmp_path)
    served = Served(index, tiny_checkpoint, loaded, results, Worker(), tmp_path / "temporary", queue)
    return cases.Desk(served, results, tmp_path / "review.sqlite", (("Attribute", ""), ("Cases", "cases")))


@pytest.fixture
def client(desk: cases.Desk) -> Iterator[TestClient]:
    app = FastAPI()
    cases.add_to(app, desk)
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


def begun(client: TestClient, *numbers: int) -> str:
    """The address of a new case with these pictures."""
    url = client.post("/cases", json={"name": CASE}).json()["url"]
    for number in numbers:
        added = client.post(f"{url}/pictures", params={"name": f"{number}.png"}, content=png(number))
        assert added.json() == {"kept": 1, "told": ""}
    return url


def ended() -> None:
    """Wait until every run of a case has ended."""
    for thread in threading.enumerate():
        if thread.name == "forwardinf-case":
            thread.join(60)


def test_a_case_is_begun_and_given_pictures(client: TestClient, desk: cases.Desk):
    url = begun(client, 0, 1)
    told = client.post(f"{url}/pictures", params={"name": "a/copy.png"}, content=png(0)).json()
    assert told == {"kept": 0, "told": "“copy.png” is picture 1 of the case already."}
    told = client.post(f"{url}/pictures", params={"name": "b.png"}, content=b"nothing").json()
    assert told["kept"] == 0
    assert told["told"].startswith("“b.png”")
    assert [one.file_name for one in pictures_of(desk.database, load_case(desk.database, CASE))] == ["0.png", "1.png"]
    assert f'<a href="{url}">{CASE}</a>' in client.get("/cases").text


def test_a_case_that_is_there_or_cannot_be_named_is_refused_in_words(client: TestClient):
    begun(client)
    for name, why in ((CASE, "already"), ("a/b", "cannot be named")):
        refusal = client.post("/cases", json={"name": name})
        assert refusal.status_code == 400
        assert why in refusal.json()["detail"]
    assert client.post("/cases", content=b"[" * 10_000).status_code == 400


def test_an_address_that_leads_nowhere_says_so(client: TestClient):
    page = client.get("/cases/7", headers=PAGE)
    assert page.status_code == 404
    assert "no case with the number 7" in page.text
    begun(client, 0)
    assert client.get("/cases/1/9/picture.png").status_code == 404
    assert client.get("/cases/1", params={"status": "odd"}).status_code == 400


def test_pictures_are_filtered_and_searched_and_text_is_escaped(client: TestClient, desk: cases.Desk):
    case, pictures = made_case(desk.database, 0, 1, 2)
    store = desk.served.results
    answer(desk.database, store, pictures[0], match(caption="<i>apple"))
    decide(desk.database, case, pictures[1], "licensed", reason="own work", author="<b>Ada")

    def shown(**wanted: str) -> str:
        return client.get("/cases/1", params={**wanted, "part": "true"}).text

    assert "3 of 3 pictures" in shown()
    assert "&lt;i&gt;apple" in shown()
    assert "<i>" not in shown()
    assert "&lt;b&gt;Ada: <b>licensed</b>" in shown(status="decided")
    assert "0.png" in shown(search="apple")
    assert "1 of 3" in shown(search="apple")
    assert "No picture of this case is like that" in shown(verdict="infringes")


def test_the_next_undecided_picture_is_the_reviewers_own(client: TestClient, desk: cases.Desk):
    case, pictures = made_case(desk.database, 0, 1)
    for author, number in (("Ada Ä", 0), ("Bo", 1)):
        decide(desk.database, case, pictures[number], "unsure", reason="dark", author=author)

    def following(author: str) -> str:
        return client.get("/cases/1/next", headers={"Cookie": f"reviewer={author}"}).headers["location"]

    assert following("Ada%20%C3%84") == "/cases/1/2"
    assert following("Bo") == "/cases/1/1"
    assert following("") == "/cases/1?status=decided"


def test_a_run_answers_every_picture_and_its_page_may_be_left(client: TestClient, desk: cases.Desk):
    url = begun(client, 0, 1)
    assert client.post(f"{url}/run").json()["runs"]
    ended()
    state = client.get(f"{url}/run").json()
    assert not state["runs"]
    assert "Done: 2 of 2 answered" in state["html"]
    assert client.get(url).text.count("/thumbnails/") == 2
    assert not desk.served.lock.locked()
    kept = desk.served.results.load(_finding(desk).result_id)
    assert client.get(f"{url}/1/picture.png").content == kept.picture
    client.post(f"{url}/run")
    ended()
    assert "has an answer of this index already" in client.get(f"{url}/run").json()["html"]


def test_a_run_that_waits_for_the_model_can_be_stopped(client: TestClient, desk: cases.Desk):
    url = begun(client, 0)
    with desk.served.lock:  # somebody else is being answered
        client.post(f"{url}/run")
        client.post(f"{url}/stop")
        ended()
    assert "Stopped: 0 of 1 answered" in client.get(f"{url}/run").json()["html"]
    assert not desk.served.lock.locked()


def test_a_run_that_had_not_ended_when_the_app_did_goes_on_when_it_is_back(client: TestClient, desk: cases.Desk):
    url = begun(client, 0, 1)
    with desk.served.lock:  # so that nothing is answered before the app ends
        client.post(f"{url}/run")
        desk.close()
    del desk.__dict__["runs"]  # what another process does not have
    assert "Stop" not in client.get(f"{url}/run").json()["html"]
    del desk.__dict__["runs"]
    desk.go_on()
    ended()
    assert "Done: 2 of 2 answered" in client.get(f"{url}/run").json()["html"]
    del desk.__dict__["runs"]
    desk.go_on()
    assert "runs" not in desk.__dict__  # as none is left over, not even the database is opened


def test_a_run_that_ends_the_app_twice_is_told_and_not_tried_again_by_itself(client: TestClient, desk: cases.Desk):
    url, killed = begun(client, 0), UnderWay(desk.served.runs.folder / "cases")
    for _ in range(2):
        killed.begin("1")
    killed.begin("7")  # of a case that is not there any more
    desk.go_on()
    state = client.get(f"{url}/run").json()
    assert (state["runs"], "ended twice during this run" in state["html"]) == (False, True)
    assert killed.left_over() == []
    assert client.post(f"{url}/run").json()["runs"]
    ended()
    assert "Done: 1 of 1" in client.get(f"{url}/run").json()["html"]


def test_a_run_that_gets_on_between_two_kills_is_tried_again(tmp_path: Path):
    work = UnderWay(tmp_path)
    work.begin("1")
    assert work.left_over() == [("1", True)]
    work.begin("1")
    assert work.left_over() == [("1", False)]
    work.got_on("1")
    assert work.left_over() == [("1", True)]
    work.end("1")
    assert work.left_over() == []


def test_a_picture_that_cannot_be_answered_is_named_and_the_others_are(client, desk, monkeypatch):
    url = begun(client, 0, 1)
    real = Attributor.query

    def refusing(attributor, picture, prompt, sha256):
        if sha256 == pictures_of(desk.database, load_case(desk.database, CASE))[0].sha256:
            raise cases.InvalidRequest("It is too dark.")
        return real(attributor, picture, prompt, sha256)

    monkeypatch.setattr(Attributor, "query", refusing)
    client.post(f"{url}/run")
    ended()
    shown = client.get(f"{url}/run").json()["html"]
    assert "Done: 1 of 2 answered" in shown
    assert "Picture 1 (0.png): It is too dark." in shown


def test_a_case_is_downloaded_as_report_pack_and_rows(client: TestClient, desk: cases.Desk):
    case, (picture,) = made_case(desk.database, 0)
    answer(desk.database, desk.served.results, picture)
    decide(desk.database, case, picture, "no match", reason="other pose", author="Ada")
    got = {
        name: client.get(f"/cases/1/{name}")
        for name in ("report.html", "report.pdf", "evidence.zip", "matches.csv", "matches.json")
    }
    assert all(one.status_code == 200 for one in got.values())
    assert all(one.headers["content-disposition"].startswith("attachment; ") for one in got.values())
    assert "other pose" in got["report.html"].text
    assert got["report.pdf"].content.startswith(b"%PDF")
    assert "decisions.jsonl" in zipfile.ZipFile(io.BytesIO(got["evidence.zip"].content)).namelist()
    assert got["matches.csv"].text.count("\n") == 2
    assert got["matches.json"].json()[0]["decisions"] == "Ada: no match"


# Decisions


def sent(client: TestClient, verdict: str = "infringes", picture: int = 1, **changes: object) -> dict:
    body = {"verdict": verdict, "reason": "same pose", "author": "Ada", "match": None, "seen": "", **changes}
    return client.post(f"/cases/1/{picture}/decisions", json=body).json()


def test_a_decision_is_recorded_withdrawn_and_shown_with_those_before(client: TestClient, desk: cases.Desk):
    case, (picture,) = made_case(desk.database, 0)
    seen = answer(desk.database, desk.served.results, picture).id
    assert "<b>infringes</b> · Ada" in sent(client, seen=seen, match="openmoji-1")["history"]
    sent(client, "licensed", seen=seen, match="openmoji-1", author=" Bo ", reason="<i>own")
    history = sent(client, "withdrawn", seen=seen, match="openmoji-1", reason="wrong one")["history"]
    assert "<b>withdrawn</b> decision 1" in history
    assert "&lt;i&gt;own" in history
    made = decisions_of(desk.database, case)
    assert [(one.verdict, one.author, one.match, one.result) for one in made] == [
        ("infringes", "Ada", "openmoji-1", seen),
        ("licensed", "Bo", "openmoji-1", seen),
        ("withdrawn", "Ada", "openmoji-1", seen),
    ]
    page = client.get("/cases/1/1", headers={"Cookie": "reviewer=Bo"}).text
    assert 'data-verdict="licensed" data-reason="&lt;i&gt;own"' in page
    assert 'data-verdict="infringes" data-reason' not in page


def test_what_is_sent_twice_is_recorded_once(client: TestClient, desk: cases.Desk):
    case, _ = made_case(desk.database, 0)
    for verdict in ("unsure", "unsure", "withdrawn", "withdrawn"):
        sent(client, verdict)
    assert [one.verdict for one in decisions_of(desk.database, case)] == ["unsure", "withdrawn"]


def test_a_decision_on_an_answer_that_was_replaced_is_refused(client: TestClient, desk: cases.Desk):
    case, (picture,) = made_case(desk.database, 0)
    first = answer(desk.database, desk.served.results, picture).id
    last = answer(desk.database, desk.served.results, picture, version="1").id
    assert "needs a reason" in sent(client, seen=last, reason=" ")["detail"]
    assert "answered anew meanwhile" in sent(client, seen=first)["detail"]
    assert "no verdict" in sent(client, "odd")["detail"]
    assert client.post("/cases/1/1/decisions", json={"verdict": "unsure"}).status_code == 400
    assert decisions_of(desk.database, case) == []


def test_decisions_on_near_duplicates_that_exclude_each_other_are_flagged(client: TestClient, desk: cases.Desk):
    made_case(desk.database, 0, 1)
    sent(client, "infringes", 1)
    sent(client, "licensed", 1, author="Bo")
    for path in ("/cases/1/1", "/cases/1/reviewers"):
        assert "Contradiction on the very same." in client.get(path).text
    assert "Contradiction" not in client.get("/cases/1/2").text
    assert "of these disputed: 1" in client.get("/cases/1/reviewers").text


def test_a_page_of_a_picture_tells_who_stated_what_and_when(client: TestClient, desk: cases.Desk):
    _, (picture,) = made_case(desk.database, 0)
    result = answer(desk.database, desk.served.results, picture, match(source_url="javascript:alert(1)"))
    note_answer(desk.database, result.record, result.original, None)
    page = client.get("/cases/1/1").text
    assert "catalog of the index" in page
    assert 'href="https://example.org/licence"' in page
    assert 'href="javascript' not in page


def _finding(desk: cases.Desk):
    return finding_of(desk.database, pictures_of(desk.database, load_case(desk.database, CASE))[0])


def test_where_people_sign_in_a_decision_is_under_the_name_of_who_is_signed_in(desk: cases.Desk):
    case, _ = made_case(desk.database, 0)
    app = FastAPI()
    cases.add_to(app, desk)

    async def signed_in(scope, receive, send):
        await app({**scope, USER: User("Cleo", Role.REVIEWER)}, receive, send)

    client = TestClient(signed_in)
    sent(client, "unsure", author="Ada")
    assert [one.author for one in decisions_of(desk.database, case)] == ["Cleo"]
    page = client.get("/cases/1/1", headers={"Cookie": "reviewer=Ada"}).text
    assert 'value="Cleo"' in page
    assert "Sign out" in page
