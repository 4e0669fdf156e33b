"""What surrounds the pages: titles, previews, icons, a page for wrong addresses, and pages that do not jump."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Page, expect

from chromium import DESKTOP, PHONE, STILL, cut_off, opened, violations
from forwardinf.web.build import PAGES

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

# Shifts without an input of the visitor's, summed, as the Core Web Vitals do; 0.1 is good.
WATCH_SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: 'layout-shift', buffered: true });
"""


def source_of(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("entry", PAGES, ids=lambda entry: entry.name)
def test_a_page_has_a_title_and_a_preview_and_nothing_of_gradios(app_url: str, entry):
    source = source_of(f"{app_url}/{entry.path}")
    assert source.count("<title>") == 1
    assert f'<meta property="og:title" content="{entry.head.title}">' in source
    assert f'<meta property="og:description" content="{entry.description}">' in source
    assert source.count('property="og:image"') == 1
    assert "@Gradio" not in source
    assert "raw.githubusercontent.com" not in source


def test_pictures_and_icons_of_the_preview_are_served(app_url: str):
    source = source_of(app_url)
    addresses = re.findall(
        r'<(?:link rel="(?:icon|apple-touch-icon)" href|meta property="og:image" content)="([^"]+)', source
    )
    assert len(addresses) == 4
    for address in addresses:
        with urllib.request.urlopen(urljoin(app_url, address)) as answer:
            assert answer.headers["content-type"].startswith("image/")


def test_a_wrong_address_leads_to_a_page_with_a_way_back(browser, app_url: str):
    context = browser.new_context()
    page = context.new_page()
    response = page.goto(f"{app_url}/no-such-page")
    assert response.status == 404
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    page.get_by_role("link", name="Back to the start").click()
    expect(page.locator("h1")).to_contain_text("Which training images")
    context.close()


def test_a_program_is_told_of_a_wrong_address_in_json(app_url: str):
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{app_url}/no-such-page")
    assert refusal.value.code == 404
    assert refusal.value.headers["content-type"] == "application/json"


def settled(page: Page, entry) -> None:
    """Everything of a page is loaded, and nothing of it has jumped."""
    expect(page.locator("main h1")).to_be_visible()
    expect(page.locator("p.loading")).to_have_count(0)
    page.wait_for_function("document.fonts.status === 'loaded'")
    page.wait_for_function(STILL)
    assert page.evaluate("window.shift") < 0.1
    assert page.title() == entry.head.title


def show(page: Page, told: list[str], url: str) -> None:
    page.on("console", lambda message: message.type == "error" and told.append(message.text))
    page.goto(url)


@pytest.mark.parametrize("entry", PAGES, ids=lambda entry: entry.name)
def test_a_page_does_not_jump_while_it_loads_and_is_accessible_in_both_themes(browser, app_url: str, entry):
    told: list[str] = []
    with opened(browser, "about:blank", viewport=DESKTOP, script=WATCH_SHIFTS) as page:
        show(page, told, f"{app_url}/{entry.path}")
        settled(page, entry)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            expect(page.locator("body.dark")).to_have_count(int(scheme == "dark"))
            assert violations(page) == []
    assert told == []


@pytest.mark.parametrize("entry", PAGES, ids=lambda entry: entry.name)
def test_a_narrow_screen_shows_everything_without_a_jump_and_does_not_scroll_sideways(browser, app_url: str, entry):
    told: list[str] = []
    with opened(browser, "about:blank", viewport=PHONE, script=WATCH_SHIFTS) as page:
        show(page, told, f"{app_url}/{entry.path}")
        settled(page, entry)
        for width in (PHONE["width"], 721, 768, 820):
            page.set_viewport_size({"width": width, "height": 1024})
            page.wait_for_function(f"window.innerWidth === {width}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert cut_off(page) == []
            narrow = "(parts) => parts.filter((e) => e.clientWidth > 0 && e.clientWidth < 60).map((e) => e.outerHTML)"
            assert page.locator("dd:visible, input[type=text]:visible, textarea:visible").evaluate_all(narrow) == []
    assert told == []


def test_the_method_page_has_a_diagram_that_fits_shows_the_terms_and_loads_every_picture(browser, app_url: str):
    with opened(browser, f"{app_url}/method", viewport=DESKTOP) as page:
        for viewport, kind in ((DESKTOP, "fi-wide"), (PHONE, "fi-tall")):
            page.set_viewport_size(viewport)
            drawing = page.get_by_role("img", name=re.compile("Six steps"))
            expect(drawing).to_have_count(1)
            expect(drawing).to_have_class(kind)
        expect(page.locator("body")).to_contain_text("Estimated influence is neither copying nor infringement")
        page.get_by_role("button", name="Model card").click()
        expect(page.get_by_text("CC BY-SA 4.0").or_(page.get_by_text("CC-BY-SA-4.0")).first).to_be_visible()
        page.locator(".prose img").evaluate_all("(images) => Promise.all(images.map((image) => image.decode()))")


def test_the_evidence_opens_with_figures_and_a_chart(browser, app_url: str):
    with opened(browser, f"{app_url}/evidence", viewport=DESKTOP) as page:
        expect(page.locator(".fi-bars li").first).to_be_visible()
        assert page.locator(".fi-bars").bounding_box()["y"] < DESKTOP["height"]
