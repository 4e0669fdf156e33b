"""What programs may call: described with types, by REST and as MCP tools, and refused in words."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from conftest import ASSETS
from forwardinf.examples.catalog import Catalog
from forwardinf.index.store import Index
from forwardinf.review.cases import begin_case
from forwardinf.review.database import FILE_NAME, Database

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]  # it shares their app
ENDPOINTS = {"generate", "attribute", "result", "search_training_set", "cases"}


@pytest.fixture(scope="module")
def client(app_url: str) -> Client:
    return Client(app_url, verbose=False)


def fetched(url: str) -> object:
    with urllib.request.urlopen(url) as answer:
        return json.loads(answer.read())


def test_the_endpoints_are_those_described_to_clients_openapi_and_mcp(client: Client, app_url: str):
    described = client.view_api(return_format="dict")
    assert {name.strip("/") for name in described["named_endpoints"]} == ENDPOINTS
    types = {
        p["parameter_name"]: p["python_type"]["type"] for p in described["named_endpoints"]["/generate"]["parameters"]
    }
    assert types == {"prompt": "str", "seed": "int", "steps": "int", "guidance": "float"}
    paths = fetched(f"{app_url}/gradio_api/openapi.json")["paths"]
    assert {path.rpartition("/")[2] for path in paths if "/call/v2/" in path} == ENDPOINTS
    tools = {tool["name"]: tool for tool in fetched(f"{app_url}/gradio_api/mcp/schema")}
    assert set(tools) == ENDPOINTS
    assert "which training images shaped a picture" in tools["attribute"]["description"]


def test_a_program_asks_waits_for_its_run_and_reads_the_answer(client: Client, small_index: Index):
    planted = Catalog.load(ASSETS / "emoji").by_id[small_index.catalog.images[11].id]
    picture = handle_file(str(ASSETS / "emoji" / planted.file_name))
    run = client.predict(picture=picture, prompt=planted.caption, weigh_all=True, api_name="/attribute")
    assert run["link"] == f"/run/{run['run']}"
    found = client.predict(run=run["run"], api_name="/result")
    while found["state"] in ("waiting", "running"):
        assert found["answer"] is None
        found = client.predict(run=run["run"], api_name="/result")
    assert found["state"] == "finished"
    assert found["answer"]["results"][0]["id"] == planted.id
    again = client.predict(picture=picture, prompt=planted.caption, weigh_all=True, api_name="/attribute")
    assert again["state"] == "finished"
    assert client.predict(run=again["run"], api_name="/result")["answer"] == found["answer"]


def test_the_training_set_is_searched_and_a_picture_drawn(client: Client, app_url: str, small_index: Index):
    image = small_index.catalog.of_split("train").images[3]
    found = client.predict(text=image.caption, limit=3, api_name="/search_training_set")
    assert image.id in [one["id"] for one in found]
    assert found[0]["licence_url"].startswith("https://")
    assert urllib.request.urlopen(app_url + found[0]["thumbnail"]).headers["content-type"] == "image/webp"
    drawn, remarks = client.predict(prompt="red apple", seed=1, steps=2, api_name="/generate")
    assert remarks == []
    _, remarks = client.predict(prompt="a (red:1.3) apple", seed=1, steps=1, api_name="/generate")
    assert "“(red:1.3)” in the prompt is read as plain text" in remarks[0]
    assert drawn.endswith("red-apple-seed-1.png")


def test_cases_are_listed_by_a_part_of_their_names(client: Client, results_folder: Path):
    begin_case(Database.open(results_folder.parent / FILE_NAME), "Ada v. Programs")
    (found,) = client.predict(name="v. prog", api_name="/cases")
    assert (found["name"], found["pictures"], found["link"]) == ("Ada v. Programs", 0, f"/cases/{found['id']}")
    assert client.predict(name="no such case", api_name="/cases") == []


@pytest.mark.parametrize(
    ("endpoint", "arguments", "told"),
    [
        ("/generate", {"prompt": ""}, "The prompt is empty"),
        ("/search_training_set", {"text": "apple", "limit": 1000}, "must be from 1 to 200"),
        ("/result", {"run": "0" * 32}, "no question that is known"),
        ("/result", {"run": "0" * 16}, "leads to no result"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(client: Client, endpoint: str, arguments: dict, told: str):
    with pytest.raises(AppError, match=told):
        client.predict(**arguments, api_name=endpoint)
