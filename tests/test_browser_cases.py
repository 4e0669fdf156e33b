"""A review in Chromium: ten pictures without a mouse, saves that fail, and pages that everybody can use."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from made_cases import answer, made_case, opened, png
from made_records import match
from PIL import Image
from playwright.sync_api import Page, expect

from chromium import DESKTOP, PHONE, cut_off, violations
from chromium import opened as opened_page
from conftest import ASSETS
from forwardinf.index.store import Index
from forwardinf.records.store import FolderStore
from forwardinf.review.cases import Case, Given, Picture, add_pictures, load_case, pictures_of
from forwardinf.review.chain import standing
from forwardinf.review.database import Database
from forwardinf.review.decisions import decisions_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def database(app_url: str, results_folder: Path) -> Database:
    """The one that the app uses."""
    return opened(results_folder.parent)


def answered_case(
    database: Database, results_folder: Path, index: Index, name: str, count: int
) -> tuple[Case, list[Picture]]:
    """A case whose pictures have answers that list two images of the app's index."""
    case, pictures = made_case(database, *range(count), name=name)
    first, second = index.catalog.images[:2]
    for picture in pictures:
        found = (match(id=first.id), match(id=second.id, rank=2, caption=second.caption))
        answer(database, FolderStore(results_folder), picture, *found, index={"fingerprint": index.fingerprint})
    return case, pictures


def saved(page: Page, count: int) -> None:
    expect(page.locator(f'#saved[data-saves="saved"][data-saved="{count}"]')).to_be_visible()


def reviewing(page: Page, author: str) -> None:
    """Say who reviews, after which the page is loaded anew for this reviewer."""
    expect(page.locator("#author")).to_be_focused()
    page.keyboard.type(author)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.locator("#review")).to_be_focused()


def decide(page: Page, key: str, reason: str) -> None:
    page.keyboard.press(key)
    page.keyboard.type(reason)
    page.keyboard.press("Enter")


def test_ten_pictures_are_reviewed_without_a_mouse(browser, app_url, database, results_folder, small_index):
    case, pictures = answered_case(database, results_folder, small_index, "Ten", 10)
    with opened_page(browser, f"{app_url}/cases/{case.id}", viewport=DESKTOP) as page:
        while page.locator("#next-undecided:focus").count() == 0:
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        reviewing(page, "Ada")
        for number in range(1, 11):  # as fast as the keys come, without waiting for a picture or a save
            decide(page, "4", f"other pose {number}")
            page.keyboard.press("j")
            decide(page, "3", f"dark {number}")
            page.keyboard.press("Enter")
        saved(page, 20)
        expect(page.locator("#told")).to_contain_text("You have decided every picture")
        stand = standing(decisions_of(database, case))
        assert {(key[0], key[1]): (one.verdict, one.reason) for key, one in stand.items()} == {
            (picture.sha256, subject): (verdict, f"{reason} {picture.number}")
            for picture in pictures
            for subject, verdict, reason in (
                (None, "no match", "other pose"),
                (small_index.catalog.images[0].id, "unsure", "dark"),
            )
        }
        assert {one.result for one in stand.values()} - {""} == {one.result for one in stand.values()}
        page.keyboard.press("u")
        saved(page, 21)
        expect(page.locator("[data-panel]:not([hidden]) .fi-history li").first).to_contain_text("withdrawn")
        expect(page.locator("[data-panel]:not([hidden]) textarea")).to_have_value("")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("next undecided picture")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_decision_that_cannot_be_saved_is_kept_told_and_tried_again(
    browser, app_url, database, results_folder, small_index
):
    case, pictures = answered_case(database, results_folder, small_index, "Cut off", 2)
    with opened_page(browser, f"{app_url}/cases/{case.id}/1", viewport=DESKTOP) as page:
        reviewing(page, "Ada")
        page.route("**/decisions", lambda route: route.abort())
        decide(page, "1", "same outline")
        expect(page.locator("#saved[data-saves=failed]")).to_contain_text(
            "1 decision not saved: The app cannot be reached"
        )
        page.keyboard.press("Enter")
        expect(page.locator("#review h1")).to_contain_text("Picture 2")
        expect(page.locator("[data-panel]:not([hidden]) textarea")).to_have_value("")
        decide(page, "2", "own work")
        expect(page.locator("#saved[data-saves=failed]")).to_contain_text("2 decisions not saved")
        assert decisions_of(database, case) == []
        page.unroute("**/decisions")
        page.keyboard.press("r")
        saved(page, 2)
        made = decisions_of(database, case)
        assert [(one.picture, one.verdict, one.reason) for one in made] == [
            (pictures[0].sha256, "infringes", "same outline"),
            (pictures[1].sha256, "licensed", "own work"),
        ]
        page.keyboard.press("n")
        page.keyboard.type("a better reason")  # in place of the one that is saved, with the same verdict
        page.keyboard.press("Enter")
        saved(page, 3)
        assert decisions_of(database, case)[-1].reason == "a better reason"


def test_a_reason_without_a_verdict_is_not_left_behind(browser, app_url, database, results_folder, small_index):
    case, _ = answered_case(database, results_folder, small_index, "Draft", 2)
    with opened_page(browser, f"{app_url}/cases/{case.id}/1", viewport=DESKTOP) as page:
        reviewing(page, "Ada")
        page.keyboard.press("n")
        page.keyboard.type("half a")
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        expect(page.locator("#review h1")).to_contain_text("Picture 1")
        expect(page.locator("textarea:focus")).to_have_value("half a")
        page.keyboard.press("Escape")
        page.keyboard.press("Enter")
        expect(page.locator("#review h1")).to_contain_text("Picture 2")
        assert decisions_of(database, case) == []


def test_two_pictures_are_compared_in_every_way_with_keys_and_on_the_picture_itself(
    browser, app_url, database, results_folder, small_index
):
    case, _ = answered_case(database, results_folder, small_index, "Compare", 1)
    with opened_page(browser, f"{app_url}/cases/{case.id}/1", viewport=DESKTOP) as page:
        reviewing(page, "Ada")
        frame = page.locator(".fi-comparison")
        for key, mode in (("b", "blink"), ("o", "overlay"), ("d", "difference"), ("d", "side")):
            page.keyboard.press(key)
            expect(frame).to_have_attribute("data-mode", mode)
        page.keyboard.press("z")
        assert {
            image.evaluate("(image) => getComputedStyle(image).transform")
            for image in page.locator(".fi-layer img").all()
        } == {"matrix(2, 0, 0, 2, 0, 0)"}
        second = page.locator(".fi-second")
        before = second.get_attribute("src")
        page.keyboard.press("j")
        page.keyboard.press("j")
        expect(second).not_to_have_attribute("src", before)
        page.get_by_role("button", name="Zoom out").click()
        page.get_by_role("button", name="Slide").click()
        box = page.locator(".fi-stage").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 50)
        page.mouse.up()
        cut = frame.evaluate("(element) => parseFloat(element.style.getPropertyValue('--cut'))")
        assert 24 < cut < 26


def test_a_case_is_begun_filled_and_searched_in_the_browser(browser, app_url, database, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.png").write_bytes(png(number))
    (folder / "broken.png").write_bytes(b"nothing")
    (folder / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "a crown"}\n')
    with opened_page(browser, f"{app_url}/cases", viewport=DESKTOP) as page:
        page.get_by_label("New case").fill("By hand")
        page.get_by_role("button", name="Begin").click()
        page.locator("#choose-folder").set_input_files(folder)
        expect(page.locator("#adding")).to_contain_text("2 of 3 added")
        expect(page.locator("#told")).to_contain_text("“broken.png”")
        page.get_by_role("link", name="Show them").click()
        page.get_by_label("Search").fill("crown")
        expect(page.locator("#lines")).to_contain_text("1 of 2 pictures")
        expect(page.locator("#lines")).to_contain_text("1.png")
    case = load_case(database, "By hand")
    assert [(one.file_name, one.prompt) for one in pictures_of(database, case)] == [("0.png", ""), ("1.png", "a crown")]


def test_decisions_on_near_duplicates_that_exclude_each_other_are_told_on_the_pages_of_both(browser, app_url, database):
    original, smaller = ASSETS / "emoji/pictures/fluent/1f9a9.webp", io.BytesIO()
    with Image.open(original) as image:
        image.resize((48, 48)).save(smaller, format="PNG")
    twice = [Given("flamingo.webp", original.read_bytes()), Given("small.png", smaller.getvalue())]
    add_pictures(database, "Twice", twice)
    case = load_case(database, "Twice")
    with opened_page(browser, f"{app_url}/cases/{case.id}/1", viewport=DESKTOP) as page:
        reviewing(page, "Ada")
        decide(page, "1", "same outline")
        saved(page, 1)
        page.keyboard.press("Enter")
        expect(page.locator("#review h1")).to_contain_text("Picture 2")
        decide(page, "4", "other pose")
        saved(page, 2)
        for number, other in ((1, 2), (2, 1)):
            page.goto(f"{app_url}/cases/{case.id}/{number}")
            told = page.get_by_role("note").filter(has_text="Contradiction on near-duplicates.")
            expect(told).to_contain_text("Ada: infringes; Ada: no match")
            expect(told.get_by_role("link")).to_have_text(f"picture {other}")
        page.goto(f"{app_url}/cases/{case.id}")
        told = page.locator("#reviewers").get_by_role("note")
        expect(told).to_contain_text("Ada decided infringes on picture 1: “same outline”")
        told.get_by_role("link", name="picture 2").click()
        expect(page.locator("#review h1")).to_contain_text("Picture 2")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_of_cases_are_accessible_and_fit(browser, app_url, database, results_folder, small_index, scheme):
    case, _ = answered_case(database, results_folder, small_index, f"Seen {scheme}", 2)
    with opened_page(browser, f"{app_url}/cases", viewport=DESKTOP, color_scheme=scheme) as page:
        for path in ("cases", f"cases/{case.id}", f"cases/{case.id}/1"):
            page.goto(f"{app_url}/{path}")
            expect(page.locator("main h1")).to_be_visible()
            assert violations(page) == []
            for width in (PHONE["width"], 768, 1080):
                page.set_viewport_size({"width": width, "height": 900})
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                assert [one for one in cut_off(page) if "data-subject" not in one] == []
            page.set_viewport_size(DESKTOP)
