"""Who may sign in, what a session is worth, and what a viewer may not do."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from typer.testing import CliRunner

from forwardinf.cli.main import app as command_line
from forwardinf.config import Settings
from forwardinf.errors import DamagedAsset, InvalidRequest, InvalidSettings
from forwardinf.web import guard
from forwardinf.web.guard import sessions, sign_in
from forwardinf.web.guard.roles import may_view
from forwardinf.web.guard.sessions import COOKIE
from forwardinf.web.guard.users import Role, Users

PASSWORD = "correct horse battery"
ADA, EVE = {"name": "Ada", "password": PASSWORD}, {"name": "Eve", "password": PASSWORD}
QUEUE, PREDICT = "/gradio_api/queue/join", "/gradio_api/run/predict"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file with a reviewer and a viewer."""
    users = Users(tmp_path_factory.mktemp("users") / "users.json")
    users.add("Ada", Role.REVIEWER, PASSWORD)
    users.add("Eve", Role.VIEWER, PASSWORD)
    return users.path.read_bytes()


@pytest.fixture
def users(known: bytes, tmp_path: Path) -> Users:
    (tmp_path / "users.json").write_bytes(known)
    return Users(tmp_path / "users.json")


def pages() -> gr.Blocks:
    """A page with something to see, and something to decide."""

    @guard.for_viewers
    def see(browser: gr.Request) -> str:
        user = guard.user_of(browser)
        return f"{user.name} sees, {browser.username}" if user else "nobody"

    def decide(browser: gr.Request) -> str:
        return f"{guard.user_of(browser).role} decides"

    with gr.Blocks() as made:
        said = gr.Textbox()
        gr.Button().click(see, None, said, queue=False)
        gr.Button().click(decide, None, said)
    return made


@pytest.fixture
def app(users: Users):
    settings, made, outer = Settings(users=users.path), pages(), FastAPI()
    outer.add_api_route("/results/{name}", lambda name: name)
    mounted = gr.mount_gradio_app(outer, made, "/", auth_dependency=guard.name_of)
    sessions = guard.sessions_of(settings)
    return guard.guarded(mounted, settings, sessions, lambda number: guard.is_for_viewers(made.fns[number].fn))


@pytest.fixture
def client(app) -> TestClient:
    return TestClient(app, base_url="http://localhost:7860", follow_redirects=False)


def event(number: int) -> dict[str, object]:
    return {"data": [], "fn_index": number, "session_hash": "s"}


# Signing in


def test_without_signing_in_nothing_but_the_page_to_do_so_is_there(client: TestClient):
    for path in ("/", "/config", "/results/a", "/gradio_api/file=a", "/gradio_api/info", "/thumbnails/1.webp"):
        assert client.get(path).status_code == 401, path
    for path in ("/gradio_api/upload", QUEUE, PREDICT, "/sign-out"):
        assert client.post(path, json={}).status_code == 401, path
    led = client.get("/results/a?b=1", headers={"accept": "text/html"})
    assert (led.status_code, led.headers["location"]) == (303, "/sign-in?next=/results/a%3Fb%3D1")
    assert "<h1>Sign in</h1>" in client.get("/sign-in").text


def test_a_user_signs_in_to_the_page_that_was_wanted_and_out_again(client: TestClient):
    signed_in = client.post("/sign-in?next=/results/a", data=ADA)
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/results/a")
    cookie = signed_in.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"))
    assert "Secure" not in cookie
    assert client.get("/results/a").json() == "a"
    stolen = client.cookies[COOKIE]
    assert client.post("/sign-out").headers["location"] == "/sign-in"
    assert client.get("/results/a").status_code == 401
    client.cookies.set(COOKIE, stolen)
    assert client.get("/results/a").status_code == 401  # what was signed out is worth nothing any more


def test_behind_https_the_cookie_stays_there(app):
    secure = TestClient(app, base_url="https://localhost", follow_redirects=False)
    assert "; Secure" in secure.post("/sign-in", data=ADA).headers["set-cookie"]


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1", "/\nx"]
)
def test_signing_in_leads_to_no_other_site(client: TestClient, wanted: str):
    assert client.post("/sign-in", params={"next": wanted}, data=ADA).headers["location"] == "/"


@pytest.mark.parametrize(
    "given", [{**ADA, "password": "wrong password"}, {**ADA, "name": "Nobody"}, {}, {"name": "Ada"}]
)
def test_a_wrong_name_or_password_is_one_message(client: TestClient, given: dict[str, str]):
    refused = client.post("/sign-in", data=given)
    assert (refused.status_code, sign_in.WRONG in refused.text) == (401, True)
    assert "set-cookie" not in refused.headers


def test_another_sites_page_signs_nobody_in_or_out(client: TestClient):
    elsewhere = {"origin": "https://evil.example"}
    assert client.post("/sign-in", data=ADA, headers=elsewhere).status_code == 403
    client.post("/sign-in", data=ADA)
    assert client.post("/sign-out", headers=elsewhere).status_code == 403
    assert client.get("/sign-out").headers["location"] == "/"  # nor does a link
    assert client.get("/results/a").status_code == 200


def test_guessing_is_slowed_down_by_name_and_by_address(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Users, "checked", lambda self, name, password: None)
    for _ in range(sessions.ATTEMPTS):
        assert client.post("/sign-in", data=ADA).status_code == 401
    refused = client.post("/sign-in", data=ADA)
    assert (refused.status_code, "Try again in 15 min." in refused.text) == (429, True)
    assert 800 < int(refused.headers["retry-after"]) <= 901
    for number in range(sessions.ATTEMPTS_FROM - sessions.ATTEMPTS):
        assert client.post("/sign-in", data={**ADA, "name": f"user {number}"}).status_code == 401
    assert client.post("/sign-in", data=EVE).status_code == 429


@pytest.mark.parametrize("forged", ["", "a.b.c", 'WyJBZGEiXQ.aaaa.bbbb"; x', "null"])
def test_a_forged_session_is_none(client: TestClient, forged: str):
    assert client.get("/results/a", headers={"cookie": f"{COOKIE}={forged}"}).status_code == 401


def test_another_password_ends_sessions_and_so_does_removal(client: TestClient, users: Users):
    client.post("/sign-in", data=ADA)
    users.add("Ada", Role.REVIEWER, f"{PASSWORD}, again")
    assert client.get("/results/a").status_code == 401
    client.post("/sign-in", data={**ADA, "password": f"{PASSWORD}, again"})
    assert client.get("/results/a").status_code == 200
    users.remove("Ada")
    assert client.get("/results/a").status_code == 401


# Roles


def test_a_viewer_sees_and_only_a_reviewer_decides_or_uploads(client: TestClient):
    client.post("/sign-in", data=EVE)
    assert client.post(PREDICT, json=event(0)).json()["data"] == ["Eve sees, Eve"]
    for path, body in (
        (PREDICT, event(1)),
        (QUEUE, event(1)),
        ("/gradio_api/upload", {}),
        ("/gradio_api/call/see", {}),
    ):
        refused = client.post(path, json=body)
        assert (refused.status_code, refused.json()) == (403, {"detail": sign_in.ONLY_REVIEWERS}), path
    client.post("/sign-in", data=ADA)
    assert client.post(PREDICT, json=event(0)).json()["data"] == ["Ada sees, Ada"]
    assert client.post("/gradio_api/upload", files={"files": ("a.txt", b"a")}).status_code == 200


def test_who_is_signed_in_is_known_behind_the_queue(app):
    with TestClient(app, base_url="http://localhost:7860") as client:
        client.post("/sign-in", data=ADA)
        client.post(QUEUE, json=event(1)).raise_for_status()
        events = client.get("/gradio_api/queue/data", params={"session_hash": "s"}).text
    assert '"data":["reviewer decides"]' in events


@pytest.mark.parametrize("body", [b"", b"[]", b'{"fn_index": "0"}', b'{"fn_index": null}', b'{"fn_index": true}', b"{"])
def test_an_event_that_is_not_named_is_not_for_viewers(body: bytes):
    assert not may_view("POST", QUEUE, body, lambda number: True)
    assert may_view("POST", QUEUE, b'{"fn_index": 0}', lambda number: True)
    assert not may_view("DELETE", "/", body, lambda number: True)


# Whether anyone has to


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "app.example.org"])
def test_beyond_this_machine_the_app_does_not_start_without_users_or_consent(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InvalidSettings, match=r"forwardinf users add NAME --role reviewer.*--insecure"):
        guard.sessions_of(Settings(host=host))
    everyone = Settings(host=host, insecure=True)
    assert guard.sessions_of(everyone) is None
    assert guard.access(everyone, None) == f"Without sign-in: whoever can reach {host} may use it (--insecure)."


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.8.8"])
def test_on_this_machine_nobody_has_to_sign_in(host: str):
    assert guard.sessions_of(Settings(host=host)) is None


def test_users_that_are_named_have_to_sign_in_whatever_else_is_said(users: Users, tmp_path: Path):
    for settings in (Settings(users=users.path), Settings(users=users.path, host="0.0.0.0", insecure=True)):
        sessions = guard.sessions_of(settings)
        assert guard.access(settings, sessions) == "Sign-in is on: 2 users in users.json."
    with pytest.raises(InvalidSettings, match=r"“none.json” names no users"):
        guard.sessions_of(Settings(users=tmp_path / "none.json"))


# The file and its commands


def test_the_file_is_for_its_owner_and_holds_no_password(users: Users):
    users.add("Mallory", Role.VIEWER, PASSWORD)
    assert users.path.stat().st_mode & 0o777 == 0o600
    kept = json.loads(users.path.read_text())
    assert all(entry["password"].startswith("$argon2id$") for entry in kept["users"].values())
    assert PASSWORD not in users.path.read_text()
    assert len({entry["password"] for entry in kept["users"].values()}) == 3


@pytest.mark.parametrize("name", ["", "  ", "a" * 65, "Ad\u202ea", "A\nda"])
def test_a_name_that_could_deceive_is_refused(users: Users, name: str):
    with pytest.raises(InvalidRequest, match="A name has 1 to 64 characters"):
        users.add(name, Role.VIEWER, PASSWORD)


def test_a_damaged_file_lets_nobody_in(users: Users):
    users.path.write_text("{")
    with pytest.raises(DamagedAsset, match=r"“users.json” is no file of users"):
        users.checked("Ada", PASSWORD)


def test_users_are_added_listed_and_removed_by_command(tmp_path: Path):
    def run(*arguments: str, **how: object) -> str:
        done = CliRunner().invoke(command_line, ["users", *arguments, "--users", str(tmp_path / "u.json")], **how)
        assert done.exception is None, done.exception
        return done.output

    assert run("add", "Ada", "--role", "reviewer", input=f"{PASSWORD}\n") == "u.json: Ada, reviewer\n"
    assert run("add", "Eve", env={"FORWARDINF_PASSWORD": PASSWORD}) == "u.json: Eve, viewer\n"
    assert run("list") == "Ada: reviewer\nEve: viewer\n"
    assert Users(tmp_path / "u.json").checked("Ada", PASSWORD).role == "reviewer"
    assert run("remove", "Ada") == "Ada: removed\n"
    assert Users(tmp_path / "u.json").checked("Ada", PASSWORD) is None
    for wrong in (["add", "Bob", "--role", "king"], ["remove", "Bob"], ["add", "Bob"]):
        done = CliRunner().invoke(command_line, ["users", *wrong, "--users", str(tmp_path / "u.json")], input="short\n")
        assert isinstance(done.exception, InvalidRequest)
