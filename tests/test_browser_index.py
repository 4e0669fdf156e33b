"""The app on an index of somebody's folder: every page is about that index, and nothing is about emoji."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from chromium import DESKTOP, opened, running_app

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

EMOJI = re.compile("emoji|Noto|Twemoji|Fluent|3,065|3,226", re.IGNORECASE)


@pytest.fixture(scope="module")
def patches_url(patches_index: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("patches-app")
    settings = {"index": patches_index, "model": tiny_checkpoint, "results": folder / "results"}
    with running_app(folder / "log.txt", **{name: str(value) for name, value in settings.items()}) as url:
        yield url


def is_about_the_folder(page: Page) -> None:
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator("body")).not_to_contain_text(EMOJI)
    assert not EMOJI.search(page.title())


def test_the_first_page_is_about_the_index_in_use(browser, patches_url: str):
    with opened(browser, patches_url, viewport=DESKTOP) as page:
        is_about_the_folder(page)


def test_the_training_set_is_the_folder_that_was_indexed(browser, patches_url: str):
    with opened(browser, f"{patches_url}/training-set", viewport=DESKTOP) as page:
        is_about_the_folder(page)
        expect(page.locator("#found")).to_have_text("6 images")
        expect(page.get_by_label("Only those shown repeatedly")).to_have_count(0)
        expect(page.locator("#next")).to_have_count(0)  # as they all fit on the page
        page.get_by_role("button", name="patch 3").click()
        expect(page.locator("#credit")).to_contain_text("Ada")
        expect(page.locator("#credit")).to_contain_text("CC0-1.0")


def test_the_method_page_says_that_there_is_no_verdict_and_names_the_index(browser, patches_url: str):
    with opened(browser, f"{patches_url}/method", viewport=DESKTOP) as page:
        is_about_the_folder(page)
        expect(page.locator("body")).to_contain_text("Each of the 6 training images")
        expect(page.locator("body")).to_contain_text("No verdict.")
        expect(page.locator(".fi-model")).to_contain_text("patches-index")
        expect(page.get_by_role("button", name="Model card")).to_have_count(0)


def test_the_evidence_says_first_that_it_is_about_another_model(browser, patches_url: str):
    with opened(browser, f"{patches_url}/evidence", viewport=DESKTOP) as page:
        note = page.get_by_role("note")
        expect(note).to_contain_text("Not about the model in use")
        expect(note).to_contain_text("patches-index")
