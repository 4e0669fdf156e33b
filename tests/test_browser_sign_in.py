"""Signing in in the browser, and what a viewer finds there, with the security policy of a page in force."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_cases import CASE, made_case
from made_cases import opened as database_in
from playwright.sync_api import ConsoleMessage, expect

from chromium import PHONE, opened, running_app, violations
from forwardinf.review.decisions import decide
from forwardinf.web.guard.users import Role, Users

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
PASSWORD = "correct horse battery"


def test_a_viewer_signs_in_by_keyboard_sees_everything_and_asks_and_decides_nothing(
    browser, patches_index: Path, tiny_checkpoint: Path, tmp_path: Path
):
    Users(tmp_path / "users.json").add("Eve", Role.VIEWER, PASSWORD)
    database = database_in(tmp_path)
    case, (picture,) = made_case(database, 0)
    decide(database, case, picture, "licensed", reason="own work", author="Ada")
    settings = {"index": patches_index, "model": tiny_checkpoint, "results": tmp_path / "results"}
    settings["users"] = tmp_path / "users.json"
    told: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            told.append(message.text)

    with (
        running_app(tmp_path / "log.txt", **{name: str(value) for name, value in settings.items()}) as url,
        opened(browser, f"{url}/training-set", viewport=PHONE, color_scheme="dark") as page,
    ):
        page.on("console", hear)
        assert violations(page) == []
        expect(page.get_by_label("Name")).to_be_focused()
        page.keyboard.type("Eve")
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.locator(".fi-signed-in")).to_contain_text("Eve, viewer")
        page.get_by_label("Search").fill("patch 3")
        expect(page.locator("#found")).to_have_text("1 image")
        page.goto(url)
        expect(page.locator("main h1")).to_be_visible()
        expect(page.get_by_role("button", name="Find influences")).to_be_hidden()
        expect(page.locator("#upload")).to_be_hidden()
        assert violations(page) == []
        page.goto(f"{url}/cases")
        expect(page.get_by_role("link", name=CASE)).to_be_visible()
        expect(page.get_by_label("New case")).to_be_hidden()
        assert violations(page) == []
        page.get_by_role("link", name=CASE).click()
        expect(page.locator("#lines")).to_contain_text("Ada: licensed")
        expect(page.get_by_role("button", name="Run")).to_be_hidden()
        expect(page.get_by_text("Add pictures")).to_be_hidden()
        page.locator("#lines a").first.click()
        expect(page.locator("[data-panel]:not([hidden]) .fi-history")).to_contain_text("own work")
        expect(page.get_by_label("Reviewer")).to_be_hidden()
        expect(page.locator("button[data-verdict]:visible")).to_have_count(0)
        expect(page.locator("#review")).to_be_focused()
        page.keyboard.press("1")
        expect(page.locator("#told")).to_have_text("Deciding is for reviewers; you are signed in as a viewer.")
        page.keyboard.press("b")
        expect(page.locator(".fi-comparison")).to_have_attribute("data-mode", "blink")
        assert violations(page) == []
        page.goto(f"{url}/history")
        expect(page.get_by_role("button", name="Delete")).to_have_count(0)
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.goto(f"{url}/method")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert told == []
    assert "Sign-in is on: 1 user in users.json." in (tmp_path / "log.txt").read_text()
