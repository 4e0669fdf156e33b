"""What stands between the network and the pages, tried on an application that says what reached it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from forwardinf.config import Settings
from forwardinf.web import folders
from forwardinf.web.guard import bodies, guarded
from forwardinf.web.guard.bodies import Bodies
from forwardinf.web.guard.quota import Quota, address_of

UPLOAD, FORM = "/gradio_api/upload", "/gradio_api/queue/join"
MB = bodies.MB


def echo() -> FastAPI:
    """Says how many bytes reached it, and lets other sites read it as Gradio does."""
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.middleware("http")
    async def shared(request: Request, call_next):
        answer = await call_next(request)
        answer.headers["Access-Control-Allow-Origin"] = request.headers.get("origin", "*")
        answer.headers["Access-Control-Allow-Credentials"] = "true"
        return answer

    return app


def client(host: str = "localhost", **settings: object) -> TestClient:
    return TestClient(guarded(echo(), Settings(**settings), None, lambda number: False), base_url=f"http://{host}:7860")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(folders.GRADIO_FOLDER, str(tmp_path))
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.delenv("SPACE_HOST", raising=False)


# Names


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "[::1]", "10.1.2.3", "app.example.org"])
def test_the_app_answers_to_this_machine_to_addresses_and_to_names_that_are_allowed(host: str):
    assert client(host, allow_host="app.example.org, other.example.org").get("/").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a@localhost]"]
)
def test_another_name_is_refused_with_what_to_do(host: str):
    answer = client(allow_host="app.example.org").get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "--allow-host" in answer.text
    assert "default-src" in answer.headers["content-security-policy"]


def test_a_space_answers_to_its_own_name_and_may_be_framed_by_its_site(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPACE_HOST", "ada-app.hf.space")
    monkeypatch.setenv("SPACE_ID", "ada/app")
    answer = client("ada-app.hf.space").get("/")
    assert answer.status_code == 200
    assert "frame-ancestors https://huggingface.co" in answer.headers["content-security-policy"]
    assert "x-frame-options" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://localhost:9", "https://127.0.0.1:7860", "null", "http://["]
)
def test_a_page_elsewhere_changes_nothing_and_reads_nothing(origin: str):
    asked = client().post(FORM, json={}, headers={"origin": origin})
    assert (asked.status_code, asked.text) == (403, "This was asked by a page of another site, so it was not done.")
    read = client().get("/", headers={"origin": origin})
    assert not [name for name in read.headers if name.startswith("access-control-")]


def test_the_apps_own_pages_and_programs_may_ask():
    assert client().post(FORM, json={}, headers={"origin": "http://localhost:7860"}).status_code == 200
    assert client().post(FORM, json={}).status_code == 200
    behind_a_proxy = client("10.0.0.1", allow_host="app.example.org")
    assert behind_a_proxy.post(FORM, json={}, headers={"origin": "https://app.example.org"}).status_code == 200


# Headers


def test_every_answer_tells_browsers_what_they_may_do():
    headers = client().get("/").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "object-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/results/0123456789abcdef/scores.csv", "/gradio_api/file=a.svg", "/thumbnails/1.webp"]
)
def test_a_file_runs_nothing(path: str):
    assert client().get(path).headers["content-security-policy"].startswith("default-src 'none';")


def test_results_are_kept_by_no_cache():
    assert client().get("/results/0123456789abcdef/record.json").headers["cache-control"] == "private, no-store"


# Bodies


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("body", ["{}", json.dumps({"data": ["[" * 1000, '"' + "{" * 1000]}), nested(bodies.DEEPEST)])
def test_what_pages_send_arrives_whole(body: str):
    assert client().post(FORM, content=body).json() == len(body)


@pytest.mark.parametrize("body", [nested(bodies.DEEPEST + 1), "[" * 500_000, "[" + "[]," * bodies.MOST_LISTS + "0]"])
def test_json_that_is_nested_too_deeply_or_of_too_many_parts_is_refused(body: str):
    answer = client().post(FORM, content=body)
    assert (answer.status_code, "nested too deeply" in answer.text) == (400, True)


@pytest.mark.parametrize("path", [FORM, "/gradio_api/run/predict", "/anything", UPLOAD + "s"])
def test_no_route_but_that_of_uploads_takes_more_than_a_megabyte(path: str):
    def streamed():
        yield from [b"x" * 100_000] * 11

    assert client().post(path, content=b"x" * (MB + 1)).status_code == 413
    assert client().post(path, content=streamed()).status_code == 413
    assert client().post(path, content=b"x" * MB).json() == MB


def uploader(most: int, clock=lambda: 0.0) -> TestClient:
    return TestClient(Bodies(echo(), Quota(most, 3600, clock)), base_url="http://localhost")


@pytest.mark.parametrize("path", [UPLOAD, "/cases/12/pictures"])
def test_an_upload_may_be_large_but_not_without_bounds(path: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "MOST_UPLOADED", 5 * MB)
    assert client().post(path, content=b"x" * 4 * MB).json() == 4 * MB
    told = client().post(path, content=b"x" * 6 * MB)
    streamed = client().post(path, content=(b"x" * MB for _ in range(6)))
    assert (told.status_code, streamed.status_code) == (413, 413)
    assert told.text == "The request is larger than 5 MB. Upload fewer files at a time."


def test_a_visitor_uploads_no_more_than_a_share_an_hour():
    now = 0.0
    visitor = uploader(3 * MB, lambda: now)
    assert visitor.post(UPLOAD, content=b"x" * 2 * MB).status_code == 200
    now = 600.0
    for content in (b"x" * 2 * MB, (b"x" * MB for _ in range(2))):
        refused = visitor.post(UPLOAD, content=content)
        assert refused.status_code == 429
    assert 2900 < int(refused.headers["retry-after"]) <= 3601
    now = 3700.0
    assert visitor.post(UPLOAD, content=b"x" * MB).status_code == 200


def test_a_quota_tells_how_long_to_wait():
    now = 0.0
    quota = Quota(10, 60, lambda: now)
    quota.take("Ada", 6)
    now = 30.0
    quota.take("Ada", 4)
    assert (quota.wait("Ada"), quota.wait("Eve")) == (31, 0)
    assert (quota.wait("Ada", 7), quota.wait("Ada", 11)) == (61, 60)
    now = 61.0
    assert (quota.wait("Ada", 6), quota.wait("Ada", 7)) == (0, 30)
    quota.forgive("Ada")
    assert quota.wait("Ada", 10) == 0


def test_a_household_has_one_address():
    first, second, other = ({"client": (host, 1)} for host in ("2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1"))
    assert address_of(first) == address_of(second) != address_of(other)
    assert address_of({"client": ("10.0.0.1", 1)}) == "10.0.0.1"


def test_what_was_cut_off_long_ago_is_removed(tmp_path: Path):
    for name, age in (("tmpold", 2 * folders.CUT_OFF), ("tmpnew", 0), ("whole", 2 * folders.CUT_OFF)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, times=(os.stat(tmp_path).st_mtime - age,) * 2)
    uploader(MB).post(UPLOAD, content=b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmpnew", "whole"]
