"""The main job as a person does it in Chromium: give a picture, wait, see whose pictures shaped it, keep the result."""

import csv
import io
import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from playwright.sync_api import Page, expect

from chromium import (
    DESKTOP,
    GOOD_PROMPT,
    PHONE,
    cut_off,
    generate,
    notice,
    opened,
    picture,
    press_stop,
    running_app,
    set_field,
    violations,
)
from conftest import ASSETS
from forwardinf.examples.catalog import Catalog, TrainingImage
from forwardinf.files.manifest import sha256_of
from forwardinf.index.store import Index
from forwardinf.records.store import FolderStore

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def planted(small_index: Index) -> TrainingImage:
    """A training image of the index, by its row in the artwork's own catalog."""
    artwork = Catalog.load(ASSETS / "emoji")
    return artwork.by_id[small_index.catalog.images[20].id]


@pytest.fixture(scope="module")
def training_picture(planted: TrainingImage) -> Path:
    return ASSETS / "emoji" / planted.file_name


def upload(page: Page, path: Path) -> None:
    page.locator("#upload input[type=file]").set_input_files(path)


def find(page: Page) -> None:
    page.get_by_role("button", name="Find influences").click()


def tiles(page: Page):
    return page.locator("#influences button")


def attributed(page: Page, path: Path, prompt: str | None = "") -> None:
    """Ask of a picture with a prompt, or with what is in the field where that is None."""
    upload(page, path)
    expect(picture(page)).to_be_visible()
    if prompt is not None:
        page.get_by_label("Prompt").fill(prompt)
    find(page)
    expect(page.locator("[data-result]")).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?result="))
    expect(page.locator("#find")).to_be_enabled()


@pytest.fixture(scope="module")
def answered_url(browser, app_url: str, training_picture: Path) -> str:
    """The link to a kept answer, for tests of what is done with one."""
    with opened(browser, app_url, viewport=DESKTOP) as page:
        attributed(page, training_picture)
        return page.url


def test_an_uploaded_training_image_comes_first_with_its_credit(page, planted, training_picture, small_index):
    attributed(page, training_picture, planted.caption)
    expect(tiles(page)).to_have_count(20)
    expect(tiles(page).first).to_have_attribute("data-id", planted.id)
    expect(tiles(page).first).to_contain_text("±")
    expect(page.locator("#status")).to_contain_text(f"{len(small_index.trained)} training images compared")
    expect(page.locator("#status")).to_contain_text("neither copying nor infringement")
    chosen = page.locator("#chosen")
    expect(chosen.get_by_role("heading")).to_have_text(planted.subject)
    for fact in ("Rank 1 of 60", planted.creator, planted.source_file, "Visual similarity", "Influence by noise level"):
        expect(chosen).to_contain_text(fact)
    licence = chosen.get_by_role("link", name=re.compile("licen|CC|MIT", re.IGNORECASE)).first
    expect(licence).to_have_attribute("href", planted.licence_url)
    expect(page.locator("#more")).to_contain_text("By chance")
    expect(page.locator("#more")).to_contain_text("Does a creator, licence or collection rank high as a whole?")
    expect(page.locator("#more details[open]")).to_have_count(0)
    expect(page.locator("#picture")).to_contain_text(f"SHA-256 {sha256_of(training_picture)[:12]}")
    loaded = "(images) => Promise.all(images.map((image) => image.decode()))"
    page.locator("#influences img, #chosen img").evaluate_all(loaded)


def test_for_a_picture_without_a_prompt_the_caption_of_the_most_similar_image_is_used(page, planted, answered_url):
    page.goto(answered_url)
    expect(tiles(page).first).to_have_attribute("data-id", planted.id)
    told = f"the caption of the most similar training image was used: “{planted.caption}”"
    expect(page.locator("#status")).to_contain_text(told)


def test_another_image_can_be_chosen_by_keyboard_and_compared_with_the_slider(page, answered_url):
    page.goto(answered_url)
    third = tiles(page).nth(2)
    third.press("Enter")
    expect(third).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#chosen")).to_contain_text("Rank 3 of 60")
    expect(page.locator("#chosen h2")).to_be_in_viewport()
    slider = page.locator("#chosen").get_by_role("slider")
    slider.press("ArrowRight")
    assert page.locator(".fi-comparison").evaluate("(frame) => frame.style.getPropertyValue('--cut')") == "51%"


def test_a_question_asked_before_is_answered_by_what_was_kept(page, training_picture, answered_url):
    attributed(page, training_picture)
    assert page.url == answered_url
    expect(page.locator("#status")).to_contain_text(re.compile(r"Answered on \d{4}-\d\d-\d\d in \d+ s"))


def test_a_result_has_a_link_and_files(page, training_picture, small_index):
    attributed(page, training_picture, "a prompt <b>")
    expect(page).to_have_url(re.compile(r"\?result=[0-9a-f]{16}$"))
    best = tiles(page).first.get_attribute("data-id")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert len(rows) == len(small_index.trained)
    assert (rows[0]["id"], rows[0]["p_value"]) == (best, "")  # as this index has no reference
    with page.expect_download() as download:
        page.get_by_role("link", name="Download JSON").click()
    record = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert record["query"]["sha256"] == sha256_of(training_picture)
    assert record["query"]["prompt"] == "a prompt <b>"
    assert record["model"]["fingerprint"] == small_index.info.fingerprint
    assert record["index"]["fingerprint"] == small_index.fingerprint


def test_a_link_leads_to_an_answer_that_another_run_of_the_app_has_kept(browser, app_url, answered_url, results_folder):
    store = FolderStore(results_folder)
    kept = store.load(answered_url.rpartition("=")[2])
    asked = kept.record.query.model_copy(update={"prompt": "asked <b>before", "fallback_caption": None})
    other = store.save(kept.record.model_copy(update={"query": asked}), kept.csv, kept.original, kept.picture)
    with opened(browser, f"{app_url}/?result={other.id}", viewport=DESKTOP) as page:
        expect(tiles(page)).to_have_count(20)
        expect(page.get_by_label("Prompt")).to_have_value("asked <b>before")
        expect(picture(page)).to_be_visible()
        tiles(page).nth(1).click()
        expect(page.locator("#chosen")).to_contain_text("Rank 2 of 60")


def test_a_kept_answer_is_run_again_any_point_is_chosen_and_its_influence_located(page, training_picture, answered_url):
    attributed(page, training_picture)
    page.get_by_role("button", name="Run again").click()
    expect(notice(page)).to_contain_text("the same images with the same scores")
    assert page.url == answered_url
    page.get_by_text("Influence and visual similarity").click()
    point = page.locator(".fi-scatter circle").nth(5)
    point.dispatch_event("click")
    expect(point).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#chosen")).to_contain_text("Rank 55 of 60")  # the least first, so that the best lies on top
    page.get_by_role("button", name="Show where the influence sits").click()
    expect(page.locator("#experiment img")).to_have_count(2)


def test_a_match_is_drawn_again_from_its_caption_and_the_prompt_without_it(page, answered_url):
    page.goto(answered_url)
    expect(page.locator("[data-result]")).to_be_visible()
    page.get_by_role("button", name="Draw it from its caption").click()
    drawn = page.get_by_role("region", name="Drawn from its caption")
    expect(drawn.get_by_role("img")).to_have_count(8)
    expect(drawn.get_by_role("status")).to_contain_text("than any of 4 pictures of images that the model never saw")
    assert all(-1 <= float(text) <= 1 for text in drawn.locator("li small").all_inner_texts())
    page.get_by_role("button", name="Draw the prompt without it").click()
    without = page.get_by_role("region", name="Drawn without this image")
    expect(without.get_by_role("status")).to_contain_text("Other prompts: ")
    expect(drawn).to_have_count(0)
    rows = without.locator("tbody tr")
    expect(rows).to_have_count(3 + 1 + 2)
    chosen, by_chance = (
        sum(float(row.locator("small").nth(place).inner_text()) for row in rows.all()[:3]) / 3 for place in (1, 2)
    )
    assert chosen < by_chance
    expect(page.get_by_role("button", name="Stop drawing")).to_be_hidden()
    page.get_by_role("button", name="Draw the prompt without it").click()
    page.get_by_role("button", name="Stop drawing").click()
    expect(page.get_by_role("button", name="Stop drawing")).to_be_hidden()
    page.get_by_role("button", name="Show where the influence sits").click()  # the model is free again
    expect(page.locator("#experiment img")).to_have_count(2)


def test_kept_answers_are_sought_laid_side_by_side_put_on_a_sheet_and_deleted(
    browser, app_url, answered_url, results_folder
):
    store = FolderStore(results_folder)
    kept = store.load(answered_url.rpartition("=")[2])
    for prompt in ("lonely snail", "lonely <b>crown"):
        asked = kept.record.query.model_copy(update={"prompt": prompt, "fallback_caption": None})
        store.save(kept.record.model_copy(update={"query": asked}), kept.csv, kept.original, kept.picture)
    with opened(browser, f"{app_url}/history", viewport=DESKTOP) as page:
        page.get_by_label("Search").fill("lonely")
        lines = page.locator("#lines tbody tr")
        expect(lines).to_have_count(2)
        compare = page.get_by_role("button", name="Two side by side")
        for box in lines.get_by_role("checkbox").all():
            expect(compare).to_be_disabled()
            box.check()
        compare.click()
        expect(page.get_by_role("heading", name="Two answers")).to_be_visible()
        expect(page.locator("main")).to_contain_text("20 training images are in both lists")
        expect(page.locator(".fi-two > section")).to_have_count(2)
        expect(page.locator(".fi-two")).to_contain_text("“lonely <b>crown”")
        assert violations(page) == []
        page.go_back()
        expect(page.get_by_label("Search")).to_have_value("lonely")
        page.get_by_role("link", name="Contact sheet").click()
        expect(page.locator(".fi-contact > li")).to_have_count(2)
        expect(page.locator(".fi-contact > li").first.locator("img")).to_have_count(1 + 3)
        page.locator(".fi-contact img").evaluate_all("(all) => Promise.all(all.map((image) => image.decode()))")
        assert violations(page) == []
        page.go_back()
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Delete the answer about").first.click()
        expect(lines).to_have_count(1)


def test_a_link_that_leads_nowhere_says_so(browser, app_url):
    for wrong in ("0123456789abcdef", "..%2F..%2Fetc"):
        with opened(browser, f"{app_url}/?result={wrong}", viewport=DESKTOP) as page:
            expect(notice(page).get_by_role("alert")).to_contain_text("leads to no result")
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{app_url}/results/{wrong}/record.json")


def test_a_generated_picture_is_attributed_stopped_half_way_and_attributed_again(page):
    generate(page, "pineapple, Noto style")  # of which no other test asks, so that no answer is kept
    expect(picture(page)).to_be_visible()
    find(page)
    press_stop(page)
    expect(page.locator("#status")).to_contain_text(re.compile(r"Stopped after \d+ of 64 images"))
    expect(page.locator("#stop")).to_be_hidden()
    expect(tiles(page)).to_have_count(0)
    find(page)
    expect(page.locator("[data-result]")).to_be_visible()
    expect(tiles(page)).to_have_count(20)


def test_find_influences_without_a_picture_draws_the_prompt_or_says_what_is_missing(page):
    generate(page, "   ")
    expect(notice(page).get_by_role("alert")).to_contain_text("The prompt is empty")
    expect(page.locator("#picture")).to_be_hidden()  # no empty frame is left
    find(page)
    expect(notice(page).get_by_role("alert")).to_contain_text("Give a picture first")
    expect(page.locator("#status")).to_contain_text("How an answer comes about")
    page.get_by_label("Prompt").fill(GOOD_PROMPT)
    find(page)
    expect(page.locator("[data-result]")).to_be_visible()
    expect(picture(page)).to_be_visible()


def stale_note(page: Page):
    return page.get_by_text("has changed since this answer")


def test_another_picture_dims_the_answer_of_the_former_and_drops_the_prompt_it_was_drawn_from(page, training_picture):
    generate(page, GOOD_PROMPT)
    expect(picture(page)).to_be_visible()
    find(page)
    expect(page).to_have_url(re.compile(r"\?result="))
    expect(page.locator("#status")).to_contain_text(f"Prompt used: “{GOOD_PROMPT}”")
    expect(stale_note(page)).to_be_hidden()
    upload(page, training_picture)
    expect(page.locator("#picture")).to_contain_text(training_picture.name)
    expect(stale_note(page)).to_be_visible()
    expect(page.get_by_label("Prompt")).to_have_value("")
    find(page)
    expect(page.locator("#status")).to_contain_text("No prompt was given")
    expect(stale_note(page)).to_be_hidden()


def test_an_edited_prompt_dims_the_answer_until_it_is_what_was_asked(page, training_picture):
    attributed(page, training_picture, "a prompt <b>")
    page.get_by_label("Prompt").fill("a prompt <br>")
    expect(stale_note(page)).to_be_visible()
    page.get_by_label("Prompt").fill("a prompt <b>")
    expect(stale_note(page)).to_be_hidden()


def test_a_prompt_typed_ahead_is_kept_for_an_uploaded_picture_but_not_for_the_next(
    browser, page, training_picture, tmp_path
):
    other = tmp_path / "other.png"
    Image.new("RGB", (40, 20), (0, 90, 200)).save(other)
    page.get_by_label("Prompt").fill("a prompt <b>")
    attributed(page, training_picture, None)
    expect(page.get_by_label("Prompt")).to_have_value("a prompt <b>")
    with opened(browser, page.url, viewport=DESKTOP) as linked:
        for asked in (page, linked):
            expect(asked.get_by_label("Prompt")).to_have_value("a prompt <b>")
            upload(asked, other)
            expect(asked.locator("#picture")).to_contain_text("other.png")
            expect(asked.get_by_label("Prompt")).to_have_value("")


def test_another_picture_given_half_way_stops_the_answer_to_the_former(page, training_picture, tmp_path):
    other = tmp_path / "other.png"
    Image.new("RGB", (40, 20), (0, 90, 200)).save(other)
    upload(page, training_picture)
    expect(picture(page)).to_be_visible()
    page.get_by_label("Prompt").fill("stopped by another picture")
    find(page)
    expect(page.locator("#stop")).to_be_visible()
    upload(page, other)
    expect(page.locator("#picture")).to_contain_text("other.png")
    expect(page.locator("#stop")).to_be_hidden()
    # Dimmed, where reading the picture took longer than the rest of the sweep.
    expect(page.locator("#status")).to_contain_text(re.compile("Stopped after|has changed since"))
    find(page)
    expect(page.locator("[data-result]")).to_be_visible()
    expect(page.locator("#picture")).to_contain_text("other.png")


def test_a_run_outlives_its_tab_and_another_page_shows_it_to_its_end(browser, app_url, training_picture):
    with opened(browser, app_url, viewport=DESKTOP) as page:
        upload(page, training_picture)
        expect(picture(page)).to_be_visible()
        page.get_by_label("Prompt").fill("in a tab that is closed")
        find(page)
        expect(page).to_have_url(re.compile(r"\?run=[0-9a-f]{32}$"))
        address = page.url.replace("/?run=", "/run/")
    with opened(browser, address, viewport=DESKTOP) as first, opened(browser, address, viewport=DESKTOP) as second:
        for watching in (first, second):
            expect(watching.locator("[data-result]")).to_be_visible()
            expect(watching.get_by_label("Prompt")).to_have_value("in a tab that is closed")
            expect(picture(watching)).to_be_visible()
            expect(watching).to_have_url(re.compile(r"\?result="))
            expect(watching.locator("#find")).to_be_enabled()


def test_two_who_ask_at_the_same_time_are_both_answered(browser, app_url, training_picture):
    with opened(browser, app_url, viewport=DESKTOP) as first, opened(browser, app_url, viewport=DESKTOP) as second:
        for page, prompt in ((first, "the first in line"), (second, "the second in line")):
            upload(page, training_picture)
            expect(picture(page)).to_be_visible()
            page.get_by_label("Prompt").fill(prompt)
        find(first)
        find(second)
        expect(first.locator("[data-result]")).to_be_visible()
        expect(second.locator("[data-result]")).to_be_visible()


def test_a_first_drawing_says_at_once_what_it_waits_for(browser, training_picture, tmp_path):
    """On the shipped index, whose sweep is still running when the second one asks."""
    with (
        running_app(tmp_path / "log.txt", results=str(tmp_path / "results")) as url,
        opened(browser, url, viewport=DESKTOP) as first,
        opened(browser, url, viewport=PHONE) as second,
    ):
        upload(first, training_picture)
        expect(picture(first)).to_be_visible()
        second.get_by_label("Prompt").fill(GOOD_PROMPT)
        find(first)
        expect(first.locator("#stop")).to_be_visible()
        second.get_by_role("button", name="Generate", exact=True).click()
        expect(second.get_by_text("The picture is drawn after it").locator("visible=true").first).to_be_visible()
        expect(picture(second)).to_have_attribute("alt", f"Generated from the prompt: {GOOD_PROMPT}")
        expect(second.get_by_text("The picture is drawn after it")).to_have_count(0)


HOSTILE = {
    "empty.png": b"",
    "text.png": b"this is no picture",
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
}


def test_a_file_that_is_no_picture_is_refused_in_words_and_a_good_one_follows(page, tmp_path, training_picture):
    for name, data in {**HOSTILE, "truncated.webp": training_picture.read_bytes()[:200]}.items():
        bad = tmp_path / name
        bad.write_bytes(data)
        upload(page, bad)
        expect(notice(page).get_by_role("alert")).to_contain_text(f"“{name}”")
    upload(page, training_picture)
    expect(picture(page)).to_be_visible()
    expect(notice(page)).to_be_hidden()
    transparent = tmp_path / "transparent.png"
    carried = PngImagePlugin.PngInfo()
    carried.add_text("parameters", "a (red:1.3) square\nSteps: 20, Sampler: Euler, Seed: 42, Model hash: 3f2a9c1b22")
    Image.new("RGBA", (40, 20), (255, 0, 0, 128)).save(transparent, pnginfo=carried)
    upload(page, transparent)
    expect(page.get_by_label("Prompt")).to_have_value("a red square")
    expect(page.locator("#picture .fi-notes li").first).to_contain_text("transparent parts placed on white")
    expect(page.locator("#picture")).to_contain_text("40 × 20")
    expect(page.locator("#picture .fi-notes")).to_contain_text("its file carries the prompt “a red square”, written by")


def test_a_pasted_picture_is_read(page, training_picture):
    # Pasted again until the page, which is still coming up, takes it.
    page.wait_for_function(
        """(bytes) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], 'pasted.webp', { type: 'image/webp' }));
            const paste = new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true });
            return !document.dispatchEvent(paste);
        }""",
        arg=list(training_picture.read_bytes()),
        polling=200,
    )
    expect(page.locator("#picture")).to_contain_text("pasted.webp")


def test_a_prompt_too_long_is_refused_and_one_longer_than_the_model_reads_is_told(page, training_picture):
    upload(page, training_picture)
    expect(picture(page)).to_be_visible()
    page.get_by_label("Prompt").fill("a" * 10_000)
    find(page)
    expect(notice(page).get_by_role("alert")).to_contain_text("The prompt has 10,000 characters")
    page.get_by_label("Prompt").fill(f"{GOOD_PROMPT}, {'red apple, ' * 30} and a last word")
    find(page)
    expect(notice(page).get_by_role("status")).to_contain_text("and a last word”")


def test_a_link_to_a_result_of_another_index_says_so(browser, app_url, answered_url, results_folder):
    store = FolderStore(results_folder)
    kept = store.load(answered_url.rpartition("=")[2])
    index = kept.record.index.model_copy(update={"fingerprint": "0" * 64})
    other = store.save(kept.record.model_copy(update={"index": index}), "", b"", kept.picture)
    with opened(browser, f"{app_url}/?result={other.id}", viewport=DESKTOP) as page:
        expect(notice(page).get_by_role("alert")).to_contain_text("made with another index")


def test_settings_out_of_range_are_refused_in_words(page, training_picture):
    upload(page, training_picture)
    expect(picture(page)).to_be_visible()
    page.get_by_role("button", name="Advanced").click()
    told = notice(page).get_by_role("alert")
    set_field(
        page,
        "Loss budget",
        "0",
        then=lambda: find(page),
        seen=lambda timeout: expect(told).to_contain_text("must be at least 0.0001", timeout=timeout),
    )
    expect(page.locator("#status")).to_contain_text("How an answer comes about")


def test_a_result_fits_a_phone_and_is_accessible_in_both_themes(browser, answered_url):
    with opened(browser, answered_url, viewport=PHONE) as page:
        expect(page.locator("[data-result]")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert cut_off(page) == []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            expect(page.locator("body.dark")).to_have_count(int(scheme == "dark"))
            assert violations(page) == []
