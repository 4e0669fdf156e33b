"""Several indexes in one app, without a browser: whose turn the memory is, and where a request and a link lead."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from forwardinf.cli.serve import _together
from forwardinf.errors import InvalidRequest, MissingAsset
from forwardinf.web.models import Models
from forwardinf.web.served import Served
from forwardinf.web.shelf import Elsewhere, Place, Shelf, nothing_more, prefix_for


def test_a_model_is_loaded_when_asked_for_and_gives_way_before_the_next_is_loaded():
    held, loaded = list[str](), list[str]()

    class Loaded:
        def __init__(self, name: str) -> None:
            held.append(name)
            loaded.append(name)
            self.name = name

        def __del__(self) -> None:
            held.remove(self.name)

    def load(name: str) -> Any:
        assert held == []  # never two at a time
        return Loaded(name)

    models = Models()
    first, second = (models.lazily(lambda name=name: load(name)) for name in "ab")
    assert loaded == []
    assert first.result() is first.result()
    second.result()
    assert held == ["b"]
    first.result()
    assert loaded == ["a", "b", "a"]


RESULTS = {"1" * 16: "fp-b", "2" * 16: "fp-gone"}


def served(name: str, prefix: str, beside: list[Any]) -> Any:
    def kept(result_id: str) -> Any:
        if result_id not in RESULTS:
            raise MissingAsset("There is none.")
        return SimpleNamespace(record=SimpleNamespace(index=SimpleNamespace(fingerprint=RESULTS[result_id])))

    one = SimpleNamespace(index=SimpleNamespace(fingerprint=f"fp-{name}"), prefix=prefix, beside=beside)
    one.results, one.title = SimpleNamespace(load=kept), name
    for method in ("of_index", "root_of", "from_here"):
        setattr(one, method, getattr(Served, method).__get__(one))
    return one


@pytest.fixture
def client() -> Any:
    beside: list[Any] = []

    def place(name: str, prefix: str) -> Place:
        app = FastAPI(lifespan=nothing_more)

        async def front(request: Request) -> dict[str, str]:
            return {"index": name, "root": request.scope["root_path"]}

        app.add_api_route("/", front)
        app.add_api_route("/cases", front)
        return Place(one := served(name, prefix, beside), app, Elsewhere(app, one))

    first = place("a", "")
    beside.append(first.served)
    shelf = Shelf(first)
    shelf.add(place("b", "/at/b"))
    with TestClient(shelf, follow_redirects=False) as client:
        shelf.add(place("c", "/at/c"))  # while others are in use
        yield client


def test_an_address_leads_to_the_index_that_it_names(client: TestClient):
    assert client.get("/cases").json() == {"index": "a", "root": ""}
    assert client.get("/at/b/cases").json() == {"index": "b", "root": "/at/b"}
    assert client.get("/at/c").json()["index"] == "c"
    assert client.get("/at/nowhere/cases").status_code == 404


def test_a_link_leads_to_the_index_that_it_is_of(client: TestClient):
    lead = client.get(f"/?result={'1' * 16}&x=%26")
    assert (lead.status_code, lead.headers["location"]) == (307, f"/at/b/?result={'1' * 16}&x=%26")
    assert client.get(f"/at/c/?result={'1' * 16}").headers["location"].startswith("/at/b/?")
    for stays in (f"/at/b/?result={'1' * 16}", f"/?result={'2' * 16}", "/?result=none", "/"):
        assert client.get(stays).status_code == 200


def test_pictures_of_another_index_are_found_from_the_pages_of_each():
    beside: list[Any] = []
    first, other, third = (served(*of, beside) for of in (("a", ""), ("b", "/at/b"), ("c", "/at/c")))
    assert first.from_here(first, "x.webp") == other.from_here(other, "x.webp") == "x.webp"
    assert first.from_here(other, "x.webp") == "at/b/x.webp"
    assert other.from_here(first, "x.webp") == "../../x.webp"
    assert other.from_here(third, "x.webp") == "../../at/c/x.webp"


def test_two_indexes_of_one_name_have_addresses_of_their_own():
    taken: list[Any] = [SimpleNamespace(prefix="")]
    for wanted in ("/at/my-set", "/at/my-set-2", "/at/my-set-3"):
        taken.append(SimpleNamespace(prefix=prefix_for("My set!", taken)))
        assert taken[-1].prefix == wanted
    assert prefix_for("画像", taken) == "/at/index"


def test_models_and_loras_go_with_the_indexes_in_order():
    a, b = Path("a"), Path("b")
    assert _together([], [], []) == [{}]
    assert _together([a], ["m"], ["l:0.5"]) == [{"index": a, "model": "m", "lora": "l:0.5"}]
    assert _together([a, b], ["m"], ["", "l"]) == [{"index": a, "model": "m"}, {"index": b, "model": "m", "lora": "l"}]
    for models, loras in ((["m"] * 3, []), ([], ["l"])):
        with pytest.raises(InvalidRequest, match="Name one of each"):
            _together([a, b], models, loras)
