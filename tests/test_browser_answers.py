"""From the first screen to a finished answer by one click, and how it looks on every screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from test_browser_site import WATCH_SHIFTS

from chromium import DESKTOP, PHONE, WAIT, notice, opened, press_stop, running_app, violations
from conftest import ASSETS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

TABLET, WIDE = {"width": 768, "height": 1024}, {"width": 1600, "height": 1000}
FLAMINGO = ASSETS / "emoji/pictures/fluent/1f9a9.webp"


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the app makes its temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def shipped_url(temporary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app as it ships."""
    folder = tmp_path_factory.mktemp("shipped")
    with running_app(folder / "log.txt", {"TMPDIR": str(temporary)}, results=str(folder / "results")) as url:
        yield url


def cards(page: Page):
    return page.locator("[data-answer]")


def answer(page: Page):
    return page.locator("[data-result]")


def open_card(page: Page, name: str) -> None:
    cards(page).filter(has_text=name).click()
    expect(answer(page)).to_be_visible()


def box(page: Page, selector: str) -> dict[str, float]:
    found = page.locator(selector).bounding_box()
    assert found is not None
    return found


def test_one_click_leads_from_the_first_screen_to_a_finished_answer(browser: Browser, shipped_url: str):
    with opened(browser, shipped_url, viewport=DESKTOP) as page:
        expect(cards(page)).to_have_count(6)
        expect(cards(page).last).to_be_in_viewport()
        open_card(page, "Flamingo")
        expect(page.locator("#status h2")).to_have_text("Flamingo, by Microsoft Corporation (MIT), stands out.")
        expect(page.locator("#status")).to_contain_text("None of 29 pictures that the model never saw scored as high.")
        expect(page.locator("#status")).to_contain_text("Prompt used: “flamingo, Fluent style”")
        expect(page.locator("#influences button:visible")).to_have_count(1)
        expect(page.locator("#influences")).to_contain_text("19 more: not distinguishable from chance")
        expect(page.locator("#chosen")).to_contain_text("Rank 1 of 3,065")
        expect(page).to_have_url(re.compile(r"\?result=[0-9a-f]{16}$"))
        expect(page.get_by_label("Prompt")).to_have_value("flamingo, Fluent style")
        expect(notice(page)).to_be_hidden()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download CSV").click()
        assert len(Path(download.value.path()).read_text(encoding="utf-8").splitlines()) == 21


def test_for_a_red_square_nothing_stands_out_and_nothing_is_made_to_look_as_if(browser: Browser, shipped_url: str):
    with opened(browser, shipped_url, viewport=DESKTOP) as page:
        open_card(page, "Nothing")
        expect(page.locator("#status h2")).to_have_text("No training image stands out.")
        expect(page.locator("#influences button:visible")).to_have_count(0)
        expect(page.locator("#influences [aria-pressed]")).to_have_count(0)
        page.locator("#influences summary").click()
        page.locator("#influences button").nth(1).click()
        expect(page.locator("#chosen")).to_contain_text("Rank 2 of 3,065")


def test_neither_one_finished_answer_after_the_other_nor_a_link_to_one_moves_anything(
    browser: Browser, shipped_url: str
):
    with opened(browser, shipped_url, viewport=DESKTOP, script=WATCH_SHIFTS) as page:
        expect(cards(page)).to_have_count(6)
        for card in cards(page).all():
            card.click()
            expect(page.locator(f'[data-result="{card.get_attribute("data-answer")}"]')).to_be_visible()
        assert page.evaluate("shift") < 0.1
        link = cards(page).first.get_attribute("href")
        page.goto(f"{shipped_url}/{link}")
        expect(answer(page)).to_be_visible()
        expect(page.locator("#chosen h2")).to_be_visible()
        assert page.evaluate("shift") < 0.1


def test_the_match_stands_beside_the_tiles_where_there_is_room(browser: Browser, shipped_url: str):
    with opened(browser, shipped_url, viewport=WIDE) as page:
        open_card(page, "Flamingo")
        page.locator("#influences summary").click()
        page.locator("#influences button").last.click()
        expect(page.locator("#chosen")).to_contain_text("Rank 20 of 3,065")
        for size in (WIDE, DESKTOP, {"width": 1080, "height": 800}):
            page.set_viewport_size(size)
            page.wait_for_function(f"window.innerWidth === {size['width']}")
            page.locator("#influences button").last.scroll_into_view_if_needed()
            expect(page.locator("#chosen h2")).to_be_in_viewport()  # it is sticky
            tiles, match, form = (box(page, name) for name in ("#influences", "#chosen", ".fi-ask"))
            assert form["x"] + form["width"] <= tiles["x"]
            assert tiles["x"] + tiles["width"] <= match["x"]
            assert match["x"] + match["width"] <= size["width"]


def test_on_a_narrow_screen_the_answer_comes_first_and_the_match_is_a_sheet(browser: Browser, shipped_url: str):
    with opened(browser, shipped_url, viewport=PHONE) as page:
        open_card(page, "Flamingo")
        for size in (PHONE, TABLET, {"width": 1079, "height": 800}):
            page.set_viewport_size(size)
            page.wait_for_function(f"window.innerWidth === {size['width']}")
            expect(page.locator("#upload")).to_be_hidden()
            assert box(page, "#status")["y"] < box(page, ".fi-ask")["y"]
            expect(page.locator("#chosen")).to_be_hidden()
            page.locator("#influences button").first.click()
            expect(page.locator("#chosen h2")).to_be_in_viewport()
            assert page.locator("#chosen dd").first.bounding_box()["width"] > 150  # no column of one letter a line
            page.get_by_role("button", name="Close").click()
            expect(page.locator("#chosen")).to_be_hidden()
            assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
        page.get_by_role("button", name="Ask about another picture").click()
        expect(page.locator("#upload")).to_be_visible()


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "light"), (DESKTOP, "dark")])
def test_first_screen_and_answer_are_accessible(browser: Browser, shipped_url: str, size: dict, scheme: str):
    with opened(browser, shipped_url, viewport=size, color_scheme=scheme) as page:
        expect(cards(page)).to_have_count(6)
        assert violations(page) == []
        open_card(page, "Flamingo")
        page.locator("#influences button").first.click()
        for summary in page.locator("summary:visible").all():
            summary.click()
        assert violations(page) == []


def test_a_printed_answer_has_its_verdict_and_its_match_and_no_form(browser: Browser, shipped_url: str):
    with opened(browser, shipped_url, viewport=PHONE) as page:
        open_card(page, "Flamingo")
        page.emulate_media(media="print")
        clipped = "(e) => getComputedStyle(e.closest('.gradio-container')).overflow"
        assert page.locator("#chosen").evaluate(clipped) == "visible"  # else the match ends where a page does
        for shown in ("#status h2", "#influences button >> nth=0", "#chosen h2"):
            expect(page.locator(shown)).to_be_visible()
        for hidden in (".fi-ask", "#finished", ".fi-keep", ".nav-holder"):
            expect(page.locator(hidden)).to_be_hidden()


def test_a_picture_is_answered_from_the_likely_images_and_all_can_be_weighed(browser: Browser, shipped_url: str):
    with opened(browser, shipped_url, viewport=DESKTOP) as page:
        page.locator("#upload input[type=file]").set_input_files(FLAMINGO)
        expect(page.locator("#picture img")).to_be_visible()
        page.get_by_label("Prompt").fill("flamingo, Fluent style")
        page.get_by_role("button", name="Find influences").click()
        expect(page.locator("#influences button").first).to_contain_text("flamingo")
        expect(answer(page)).to_be_visible()
        expect(page.locator("#status h2")).to_have_text("Flamingo, by Microsoft Corporation (MIT), stands out.")
        expect(page.locator("#status")).to_contain_text(re.compile(r"\d{3} of 3,065 training images were weighed"))
        expect(page.locator("#more")).not_to_contain_text("rank high as a whole")
        page.get_by_role("button", name="Weigh all 3,065 images").click()
        expect(page.locator("#status")).to_contain_text(re.compile(r"of 3,226 images, 161 held out"))
        press_stop(page)
        expect(page.locator("#status")).to_contain_text("Stopped")


def test_pictures_of_a_visitor_are_removed_when_the_visitor_goes(browser: Browser, shipped_url: str, temporary: Path):
    def kept() -> list[bytes]:
        return [path.read_bytes() for path in temporary.glob("*/pictures/*/*")]

    with opened(browser, shipped_url, viewport=DESKTOP) as other:
        with opened(browser, shipped_url, viewport=DESKTOP) as page:
            page.locator("#upload input[type=file]").set_input_files(FLAMINGO)
            expect(page.locator("#picture img")).to_be_visible()
            assert kept() == [FLAMINGO.read_bytes()]
        for _ in range(WAIT // 100):
            if not kept():
                break
            other.wait_for_timeout(100)
        assert kept() == []
