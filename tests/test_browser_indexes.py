"""Several indexes in one app: switched in the header, each with its pages, answers and links."""

from __future__ import annotations

import csv
import io
import json
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from test_adapters import lora

from chromium import DESKTOP, PHONE, cut_off, opened, running_app, violations
from conftest import write_patches
from forwardinf.attribution.build_whole import WholePlan, build_whole
from forwardinf.examples.metadata import read_training_folder
from forwardinf.index.build import BuildPlan
from forwardinf.models.registry import load_model
from forwardinf.types import Adapter, ModelSpec

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PLAN = WholePlan(BuildPlan(draws=2, fisher_images=2, fisher_draws=1), sketch=False, null_pictures=0)


@dataclass(frozen=True)
class Served:
    url: str
    picture: Path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[Served]:
    """An index of a model, and one of the same with a LoRA, of other pictures, one of which could not be read."""
    work = tmp_path_factory.mktemp("two")
    style, named = lora(work / "style.safetensors"), ["--model", str(tiny_checkpoint)]
    for name, count, adapter in (("plain", 6, None), ("style", 8, Adapter(str(style)))):
        (work / f"{name}-set").mkdir()
        folder = write_patches(work / f"{name}-set", count)
        if adapter:
            (folder / "broken.png").write_bytes(b"no picture")
            with (folder / "metadata.jsonl").open("a") as rows:
                rows.write(json.dumps({"file_name": "broken.png", "text": "broken", "licence": "MIT"}) + "\n")
        spec = ModelSpec(str(tiny_checkpoint), adapter=adapter, tunable="adapter" if adapter else "all")
        read = read_training_folder(folder)
        build_whole(load_model(spec), read, work / name, PLAN, lambda *_: None)
        named += ["--index", str(work / name), "--lora", str(style) if adapter else ""]
    with running_app(work / "log.txt", command=["serve", *named], results=str(work / "results" / "kept")) as url:
        yield Served(url, work / "style-set" / "03.png")


def switcher(page: Page):
    return page.get_by_label("Index", exact=True)


def test_the_header_leads_to_the_same_page_of_another_index(browser, two: Served):
    with opened(browser, f"{two.url}/training-set", viewport=DESKTOP) as page:
        expect(switcher(page).locator("option")).to_have_text(["plain · 6", "style · 8"])
        expect(page.locator("#found")).to_have_text("6 images")
        switcher(page).select_option("style · 8")
        page.wait_for_url("**/at/style/training-set")
        expect(page.locator("#found")).to_have_text("8 images")
        expect(switcher(page).locator("option:checked")).to_have_text("style · 8")
        page.get_by_role("link", name="Cases").click()
        page.wait_for_url("**/at/style/cases")
        expect(switcher(page)).to_be_visible()


def test_the_page_of_an_index_tells_what_it_is_and_what_was_skipped(browser, two: Served):
    with opened(browser, f"{two.url}/at/style/training-set", viewport=PHONE) as page:
        about = page.locator("#about-index")
        for text in (
            "pipeline",
            "style.safetensors",
            "8 trained on, 0 held out, 1 skipped",
            "2 per image",
            "broken.png",
        ):
            expect(about).to_contain_text(text)
        expect(about).to_contain_text("Not stated by the LoRA’s file: repeats, tags")
        with page.expect_download() as download:
            page.get_by_role("link", name="Credits as CSV").click()
        rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
        assert [(row["source"], row["creator"], row["images"]) for row in rows] == [("style-set", "Ada", "8")]


def test_an_answer_of_another_index_is_asked_kept_and_linked_as_its_own(browser, two: Served):
    with opened(browser, f"{two.url}/at/style/", viewport=DESKTOP) as page:
        page.locator("#upload input[type=file]").set_input_files(two.picture)
        expect(page.locator("#picture img")).to_be_visible()
        page.get_by_label("Prompt").fill("patch 3")
        page.get_by_role("button", name="Find influences").click()
        expect(page.locator("[data-result]").first).to_be_visible()
        result = page.locator("[data-result]").first.get_attribute("data-result")
        page.locator("#influences [data-id]").first.click()
        expect(page.locator("#chosen")).to_contain_text("Learned by the adapter")
        # A link that does not say which index leads there all the same, as do the history's.
        page.goto(f"{two.url}/?result={result}")
        page.wait_for_url(f"**/at/style/?result={result}")
        expect(page.locator("#influences [data-id]").first).to_be_visible()
        page.goto(f"{two.url}/history")
        expect(page.locator("main")).to_contain_text("style")
    record = json.load(urllib.request.urlopen(f"{two.url}/results/{result}/record.json"))
    assert record["index"]["name"] == "style"


@pytest.mark.parametrize("path", ["/at/style/", "/at/style/training-set", "/cases"])
def test_nothing_is_wrong_with_the_header_or_the_pages(browser, two: Served, path: str):
    for viewport, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
        with opened(browser, f"{two.url}{path}", viewport=viewport, color_scheme=scheme) as page:
            expect(switcher(page)).to_be_visible()
            assert violations(page) == []
            assert cut_off(page) == []


@pytest.fixture(scope="module")
def building(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, patches_index: Path
) -> Iterator[tuple[str, Path]]:
    """An app with one index, in which others may be built from below a folder."""
    work = tmp_path_factory.mktemp("building")
    (work / "root" / "set").mkdir(parents=True)
    write_patches(work / "root" / "set", 10)
    settings = {"index": patches_index, "model": tiny_checkpoint, "results": work / "results" / "kept"}
    named = {name: str(value) for name, value in settings.items()}
    with running_app(work / "log.txt", build_root=str(work / "root"), **named) as url:
        yield url, work


def build_named(page: Page, name: str):
    return page.locator("article").filter(has_text=name)


def test_an_index_is_built_from_an_uploaded_zip_and_shows_in_the_header_without_a_restart(browser, building):
    url, work = building
    source = work / "root" / "set"
    with zipfile.ZipFile(work / "set.zip", "w") as archive:
        for file in source.iterdir():
            archive.write(file, file.name)
    with opened(browser, f"{url}/training-set", viewport=DESKTOP) as page:
        expect(switcher(page)).to_have_count(0)  # as there is one index
        page.get_by_role("link", name="Build another index").click()
        page.get_by_label("Name").fill("From a ZIP")
        page.get_by_label("or a ZIP").set_input_files(work / "set.zip")
        page.get_by_role("button", name="Build", exact=True).click()
        expect(build_named(page, "From-a-ZIP")).to_have_attribute("data-build", "finished", timeout=240_000)
        switcher(page).select_option("From-a-ZIP · 10")
        page.wait_for_url("**/at/from-a-zip/build")
        page.goto(f"{url}/at/from-a-zip/training-set")
        expect(page.locator("#found")).to_have_text("10 images")


def test_a_folder_that_may_not_be_named_is_refused(browser, building):
    url, _ = building
    with opened(browser, f"{url}/build", viewport=PHONE) as page:
        page.get_by_label("Name").fill("mine")
        page.get_by_label("Folder on the server").fill("/etc")
        page.get_by_role("button", name="Build", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("not below a folder that may be named")
        assert violations(page) == []
        assert cut_off(page) == []
