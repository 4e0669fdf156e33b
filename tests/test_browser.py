"""The pages as a person meets them, in Chromium: pictures, the training set, the method, phones, refusals at the start.

Uses the environment's model (`FORWARDINF_MODEL`, by default the shipped one) and no network.
"""

import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import expect

from chromium import (
    DESKTOP,
    GOOD_PROMPT,
    PHONE,
    ROOT,
    assert_a_good_prompt_still_works,
    assert_real_pixels,
    environment,
    generate,
    notice,
    open_advanced,
    opened,
    picture,
    set_field,
    violations,
)
from forwardinf.config import load_settings
from forwardinf.files import manifest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PAGES = ("/", "/training-set", "/method", "/evidence")


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


def test_an_empty_prompt_is_refused_in_words(page):
    generate(page, "   ")
    expect(notice(page).get_by_role("alert")).to_contain_text("The prompt is empty")
    assert_a_good_prompt_still_works(page)


def test_a_prompt_of_ten_thousand_characters_is_refused_in_words(page):
    generate(page, "a" * 10_000)
    expect(notice(page).get_by_role("alert")).to_contain_text("The prompt has 10,000 characters")
    assert_a_good_prompt_still_works(page)


@pytest.mark.parametrize("prompt", ["红苹果", "красное яблоко"])
def test_a_prompt_in_another_script_is_drawn_with_a_notice(page, prompt):
    generate(page, prompt)
    expect(page.locator(".fi-prompt")).to_have_text(f"“{prompt}”")
    expect(notice(page).get_by_role("status")).to_contain_text("No word of this prompt")
    assert_a_good_prompt_still_works(page)


def test_words_beyond_what_the_model_reads_are_named(page):
    generate(page, f"{GOOD_PROMPT}, {'red apple, ' * 30} and a last word")
    expect(notice(page).get_by_role("status")).to_contain_text("and a last word”")
    assert_a_good_prompt_still_works(page)


REFUSED = [
    ("Seed", "-1", "0", "The seed is -1"),
    ("Seed", "4294967296", "0", "The seed is 4294967296"),
    ("Seed", "1.5", "0", "The seed is 1.5"),
    ("Seed", "", "0", "The seed is empty"),
    ("Steps", "0", "2", "The number of steps is 0"),
    ("Steps", "1000", "2", "The number of steps is 1000"),
    ("Guidance", "99", "5", "The guidance is 99"),
]


def test_a_number_that_cannot_be_used_is_refused_in_words(page):
    open_advanced(page)
    told = notice(page).get_by_role("alert")
    for field, value, good, message in REFUSED:
        set_field(
            page,
            field,
            value,
            then=lambda: generate(page, GOOD_PROMPT),
            seen=lambda timeout, message=message: expect(told).to_contain_text(message, timeout=timeout),
        )
        page.get_by_label(field, exact=True).fill(good)
    assert_a_good_prompt_still_works(page)


def test_a_refusal_keeps_the_picture_that_was_there(page):
    generate(page, GOOD_PROMPT)
    expect(picture(page)).to_be_visible()
    generate(page, "")
    expect(notice(page).get_by_role("alert")).to_be_visible()
    expect(picture(page)).to_be_visible()


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


def test_a_search_without_matches_says_so(browser, app_url):
    with opened(browser, f"{app_url}/training-set", viewport=DESKTOP) as page:
        page.get_by_label("Search").fill("no such picture <b>")
        expect(page.locator("#found")).to_contain_text("No image matches")
        expect(page.locator("#gallery img")).to_have_count(0)


def test_repeated_pictures_can_be_singled_out_by_keyboard(browser, app_url):
    with opened(browser, f"{app_url}/training-set", viewport=DESKTOP) as page:
        page.get_by_label("Only those shown repeatedly").press("Space")
        expect(page.locator("#found")).to_contain_text("3 images")
        page.locator("#gallery button").first.press("Enter")
        expect(page.locator("#credit")).to_contain_text("shown 25 times per epoch")


def test_the_method_page_shows_the_terms_and_loads_every_picture(browser, app_url):
    with opened(browser, f"{app_url}/method", viewport=PHONE) as page:
        expect(page.locator("body")).to_contain_text("Estimated influence is neither copying nor infringement")
        page.get_by_role("button", name="Model card").click()
        expect(page.get_by_text("CC BY-SA 4.0").or_(page.get_by_text("CC-BY-SA-4.0")).first).to_be_visible()
        page.locator(".prose img").evaluate_all("(images) => Promise.all(images.map((image) => image.decode()))")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_breaks_a_rule_of_accessibility(browser, app_url, path, scheme):
    with opened(browser, app_url + path, viewport=DESKTOP, color_scheme=scheme) as page:
        expect(page.locator("h1")).to_be_visible()
        assert violations(page) == []


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


def run_app(**settings: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=environment(**settings), capture_output=True, text=True, timeout=500
    )


def test_a_missing_model_ends_with_a_message(tmp_path):
    ended = run_app(model=str(tmp_path))
    assert ended.returncode == 2
    assert f"“{tmp_path.name}” has no model_index.json" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_damaged_model_ends_with_a_message_that_names_the_file(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(load_settings().model, model)
    manifest.write_manifest(model)
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    ended = run_app(model=str(model))
    assert ended.returncode == 2
    assert "“model/unet/diffusion_pytorch_model.safetensors” differs from what its manifest records" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_busy_port_ends_with_a_message():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ended = run_app(port=str(listener.getsockname()[1]))
    assert ended.returncode == 2
    assert "is in use. Choose another with --port or FORWARDINF_PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_index_ends_with_a_message(tmp_path):
    ended = run_app(index=str(tmp_path))
    assert ended.returncode == 2
    assert f"“{tmp_path.name}” is not an index" in ended.stderr
    assert "Traceback" not in ended.stderr
