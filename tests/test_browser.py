"""The pages as a person meets them, in Chromium: pictures, the training set, and which files are served.

Uses the environment's model (`FORWARDINF_MODEL`, by default the shipped one) and no network.
"""

import urllib.error
import urllib.request

import pytest
from playwright.sync_api import expect

from chromium import (
    DESKTOP,
    GOOD_PROMPT,
    ROOT,
    assert_a_good_prompt_still_works,
    assert_real_pixels,
    generate,
    notice,
    open_advanced,
    opened,
    picture,
    set_field,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_an_example_prompt_draws_a_picture(page):
    page.get_by_role("button", name=GOOD_PROMPT).click()
    expect(page.locator(".fi-prompt")).to_have_text(f"“{GOOD_PROMPT}”")
    assert_real_pixels(page)
    expect(page.get_by_label("Prompt")).to_have_value(GOOD_PROMPT)
    expect(picture(page)).to_have_attribute("alt", f"Generated from the prompt: {GOOD_PROMPT}")
    expect(page.locator(".fi-facts")).to_contain_text("seed 0 · 25 steps · guidance 5")
    assert page.locator(".fi-download").get_attribute("download") == "flamingo-fluent-style-seed-0.png"


def test_the_same_seed_draws_the_same_bytes_and_another_seed_others(page):
    open_advanced(page)
    seed = page.get_by_label("Seed", exact=True)
    expect(seed).to_have_value("0")
    generate(page, GOOD_PROMPT)
    expect(page.locator(".fi-facts")).to_contain_text("seed 0 ")
    first = picture(page).get_attribute("src")
    page.get_by_role("button", name="Another seed").click()
    expect(seed).not_to_have_value("0")
    expect(page.locator(".fi-facts")).to_contain_text(f"seed {seed.input_value()} ")
    assert picture(page).get_attribute("src") != first
    facts = page.locator(".fi-facts")
    set_field(
        page,
        "Seed",
        "0",
        then=lambda: page.get_by_label("Prompt").press("Enter"),
        seen=lambda timeout: expect(facts).to_contain_text("seed 0 ", timeout=timeout),
    )
    assert picture(page).get_attribute("src") == first


def test_what_cannot_be_drawn_is_refused_in_words_and_keeps_the_picture_that_was_there(page):
    told = notice(page).get_by_role("alert")
    generate(page, "   ")
    expect(told).to_contain_text("The prompt is empty")
    generate(page, "a" * 10_000)
    expect(told).to_contain_text("The prompt has 10,000 characters")
    assert_a_good_prompt_still_works(page)
    open_advanced(page)
    for field, value, good, message in REFUSED:
        set_field(
            page,
            field,
            value,
            then=lambda: generate(page, GOOD_PROMPT),
            seen=lambda timeout, message=message: expect(told).to_contain_text(message, timeout=timeout),
        )
        expect(picture(page)).to_be_visible()
        page.get_by_label(field, exact=True).fill(good)
    assert_a_good_prompt_still_works(page)


# One for each field; every other value that is refused is in test_web_view.py.
REFUSED = [
    ("Seed", "", "0", "The seed is empty"),
    ("Steps", "0", "2", "The number of steps is 0"),
    ("Guidance", "99", "5", "The guidance is 99"),
]


def test_what_the_model_does_not_read_of_a_prompt_is_told_beside_the_picture(page):
    told = notice(page).get_by_role("status")
    generate(page, "红苹果")
    expect(page.locator(".fi-prompt")).to_have_text("“红苹果”")
    expect(told).to_contain_text("No word of this prompt")
    generate(page, f"{GOOD_PROMPT}, {'red apple, ' * 30} and a last word")
    expect(told).to_contain_text("and a last word”")
    assert_a_good_prompt_still_works(page)


def test_the_training_set_can_be_searched_and_credits_each_picture(page):
    caption = "red apple, OpenMoji style"
    page.get_by_role("link", name="Training set").first.click()
    expect(page.locator("#gallery img")).to_have_count(60)
    page.get_by_label("Search").fill("red apple openmoji")
    expect(page.locator("#gallery img")).to_have_count(1)
    expect(page.locator("#found")).to_contain_text("1 image")
    page.get_by_role("button", name=caption).click()
    credit = page.locator("#credit")
    expect(credit.get_by_role("heading", name=caption)).to_be_visible()
    expect(credit.get_by_role("link", name="CC BY-SA 4.0")).to_have_attribute(
        "href", "https://creativecommons.org/licenses/by-sa/4.0/"
    )
    expect(credit).to_contain_text("Liz Bravo")
    assert credit.locator("img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 0
    page.get_by_role("button", name=caption).click()
    expect(credit).to_contain_text("Choose an image")


def test_the_whole_training_set_can_be_paged_through(browser, app_url):
    with opened(browser, f"{app_url}/training-set", viewport=DESKTOP) as page:
        found, images = page.locator("#found"), page.locator("#gallery img")
        before, after = (page.get_by_role("button", name=name, exact=True) for name in ("Previous", "Next"))
        expect(found).to_have_text("60 images")
        page.get_by_label("Images", exact=True).click()
        page.get_by_role("option", name="All").click()
        expect(found).to_have_text("1 to 60 of 64 images")
        expect(before).to_be_disabled()
        first = images.first.get_attribute("src")
        page.locator("#gallery button").first.click()
        expect(page.locator("#credit")).to_contain_text("Licence")
        after.click()
        expect(found).to_have_text("61 to 64 of 64 images")
        expect(page.locator("#credit")).to_contain_text("Choose an image")
        expect(images.first).not_to_have_attribute("src", first)
        before.click()
        expect(images.first).to_have_attribute("src", first)
        after.click()
        page.get_by_label("Only those shown repeatedly").check()
        expect(found).to_have_text("3 images")
        expect(after).to_be_hidden()


def test_repeated_pictures_can_be_singled_out_by_keyboard_and_a_search_without_matches_says_so(browser, app_url):
    with opened(browser, f"{app_url}/training-set", viewport=DESKTOP) as page:
        page.get_by_label("Only those shown repeatedly").press("Space")
        expect(page.locator("#found")).to_contain_text("3 images")
        page.locator("#gallery button").first.press("Enter")
        expect(page.locator("#credit")).to_contain_text("shown 25 times per epoch")
        page.get_by_label("Search").fill("no such picture <b>")
        expect(page.locator("#found")).to_contain_text("No image matches")
        expect(page.locator("#gallery img")).to_have_count(0)


def test_only_the_pictures_are_served_as_files(app_url, small_index):
    index = small_index.folder.resolve()
    with urllib.request.urlopen(f"{app_url}/thumbnails/000000.webp?{small_index.fingerprint[:12]}") as answer:
        assert answer.headers["content-type"] == "image/webp"
        assert answer.read() == small_index.thumbnail_files.read("thumbnails/000000.webp")
    for name in ("999999.webp", "00000.safetensors", "..%2Fcatalog.parquet", "x.webp"):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"{app_url}/thumbnails/{name}")
        assert refusal.value.code == 404
    for path in (index / "catalog.parquet", ROOT / "app.py", index / "thumbnails/00000.safetensors"):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"{app_url}/gradio_api/file={path}")
        assert refusal.value.code in (403, 404)
