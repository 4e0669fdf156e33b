"""A hundred visitors beside one running attribution: how long pages and searches of the training set take.

Each visitor opens a page, searches the training set by Gradio's own protocol, thinks, and goes on. Meanwhile one more
visitor asks which images made a picture, again and again. What fails, or gives another answer than expected, is counted
as lost. `make bench-load` prints how long they waited, and exits with 1 where that is longer than promised.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent
PAGES = ("/", "/training-set", "/method", "/evidence")
SEARCHES = {"flamingo": "4 images", "red apple": "4 images", "snail": "4 images"}
PROMISED = 2.0  # seconds, for 95 of 100 pages and searches
PATIENCE = 60.0
PICTURE = next((ROOT / "assets/answers").glob("*/query.bin"))
PROMPT = "flamingo, Fluent style"


@dataclass
class Tally:
    """Seconds that each kind of request took, and what was lost."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    lost: list[str] = field(default_factory=list)

    async def timed(self, kind: str, request: Awaitable[bool]) -> None:
        begun = time.perf_counter()
        try:
            right = await request
        except (httpx.HTTPError, AssertionError) as error:
            self.lost.append(f"{kind}: {error!r}")
            return
        if right:
            self.seconds[kind].append(time.perf_counter() - begun)
        else:
            self.lost.append(f"{kind}: another answer than expected")


@dataclass(frozen=True)
class Event:
    """What a component does, as a browser asks for it."""

    number: int  # of Gradio's function
    queued: bool
    inputs: list[object]  # as they are on the page

    async def result(self, client: httpx.AsyncClient, changes: dict[int, object]) -> list[object]:
        """What its outputs become in the end, with the inputs at these places changed."""
        data = [changes.get(place, value) for place, value in enumerate(self.inputs)]
        session = secrets.token_hex(5)
        body = {"data": data, "event_data": None, "fn_index": self.number, "session_hash": session, "trigger_id": None}
        if not self.queued:
            return (await client.post("/gradio_api/run/predict", json=body)).raise_for_status().json()["data"]
        (await client.post("/gradio_api/queue/join", json=body)).raise_for_status()
        async with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as events:
            async for line in events.aiter_lines():
                message = json.loads(line[6:]) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed":
                    assert message["success"], message
                    return message["output"]["data"]
        raise AssertionError("the answer ended early")


@dataclass(frozen=True)
class Events:
    """What the app's pages and programs can have it do."""

    config: dict[str, Any]

    def of(self, elem_id: str, trigger: str) -> Event:
        """What runs on the server when a component of a page is used."""
        (source,) = (one["id"] for one in self.config["components"] if one["props"].get("elem_id") == elem_id)
        return self._event(lambda one: [source, trigger] in one["targets"])

    def named(self, name: str) -> Event:
        return self._event(lambda one: one["api_name"] == name)

    def _event(self, is_it: Callable[[dict[str, Any]], bool]) -> Event:
        (found,) = (one for one in self.config["dependencies"] if one["backend_fn"] and is_it(one))
        values = {one["id"]: one["props"].get("value") for one in self.config["components"]}
        return Event(found["id"], found["queue"], [values[number] for number in found["inputs"]])


@contextmanager
def app(url: str | None) -> Iterator[str]:
    """The address of an app: one of its own on the shipped index, or that at `url`."""
    if url:
        yield url
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="forwardinf-load-") as results:
        command = [sys.executable, str(ROOT / "app.py")]
        settings = {"FORWARDINF_PORT": str(port), "FORWARDINF_RESULTS": results, "HF_HUB_OFFLINE": "1"}
        server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings})
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


async def reached(client: httpx.AsyncClient) -> None:
    """Wait until the app answers."""
    for _ in range(600):
        try:
            await client.get("/favicon.ico")
            return
        except httpx.TransportError:
            await asyncio.sleep(0.2)
    raise SystemExit("The app does not answer.")


async def visit(client: httpx.AsyncClient, search: Event, tally: Tally, until: float, think: float, seed: int) -> None:
    """Open pages and search, with as long to think on the average, until it is time to leave."""
    chosen = random.Random(seed)
    await asyncio.sleep(chosen.uniform(0, think))
    while time.perf_counter() < until:
        await tally.timed("page", _page(client, chosen.choice(PAGES)))
        await asyncio.sleep(chosen.uniform(0.5, 1.5) * think)
        text, found = chosen.choice(list(SEARCHES.items()))
        await tally.timed("search", _search(client, search, text, found))
        await asyncio.sleep(chosen.uniform(0.5, 1.5) * think)


async def _page(client: httpx.AsyncClient, path: str) -> bool:
    return "window.gradio_config" in (await client.get(path)).raise_for_status().text


async def _search(client: httpx.AsyncClient, search: Event, text: str, found: str) -> bool:
    return found in str(await search.result(client, {0: text}))


async def ask(client: httpx.AsyncClient, events: Events, tally: Tally, over: asyncio.Event) -> None:
    """Ask which images made a picture, with another prompt each time, until it is over."""
    number = 0
    while not over.is_set():
        number += 1
        await tally.timed("attribution", _answer(client, events, f"{PROMPT}, {number}"))


async def _answer(client: httpx.AsyncClient, events: Events, prompt: str) -> bool:
    files = {"files": ("query.png", PICTURE.read_bytes(), "image/png")}
    (path,) = (await client.post("/gradio_api/upload", files=files)).raise_for_status().json()
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    (asked,) = await events.named("attribute").result(client, {0: file, 1: prompt})
    while True:
        (now,) = await events.named("result").result(client, {0: asked["run"]})
        if now["answer"] or now["state"] not in ("waiting", "running"):
            return bool(now["answer"])
        await asyncio.sleep(1)


async def run(url: str, visitors: int, seconds: float, think: float) -> bool:
    """Visitors who come and go for so long; whether they met what was promised, and nothing was lost."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits, trust_env=False) as client:
        await reached(client)
        events, tally = Events((await client.get("/config")).raise_for_status().json()), Tally()
        await _answer(client, events, PROMPT)  # the model is loaded by then
        over = asyncio.Event()
        asking = asyncio.create_task(ask(client, events, tally, over))
        until, search = time.perf_counter() + seconds, events.of("search", "change")
        await asyncio.gather(*(visit(client, search, tally, until, think, seed) for seed in range(visitors)))
        in_time = told(tally, "page", "search")
        over.set()
        await asking  # the last one is not given up
    told(tally, "attribution")
    print(f"lost: {len(tally.lost)}", *tally.lost[:5], sep="\n  ")
    return in_time and not tally.lost


def told(tally: Tally, *kinds: str) -> bool:
    """Print how long each kind took; whether that is as long as was promised."""
    longest = 0.0
    for kind in kinds:
        seconds = sorted(tally.seconds[kind]) or [float("inf")]
        p50, p95 = (seconds[int((len(seconds) - 1) * share)] for share in (0.5, 0.95))
        print(f"{kind:12} {len(seconds):6,} times   p50 {p50:6.2f} s   p95 {p95:6.2f} s   longest {seconds[-1]:6.2f} s")
        longest = max(longest, p95)
    return longest <= PROMISED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60, help="how long they keep coming")
    parser.add_argument("--think", type=float, default=5, help="seconds between two requests of a visitor")
    parser.add_argument("--url", help="an app that is running; by default one is started on the shipped index")
    given = parser.parse_args()
    with app(given.url) as url:
        print(f"{given.visitors} visitors for {given.seconds:g} s, each with {given.think:g} s between two requests")
        return 0 if asyncio.run(run(url, given.visitors, given.seconds, given.think)) else 1


if __name__ == "__main__":
    sys.exit(main())
