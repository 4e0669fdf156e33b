"""What the pages show, without a browser: notices, credits, search, and what a form's fields turn into."""

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forwardinf.config import ASSETS
from forwardinf.errors import InvalidRequest
from forwardinf.examples.catalog import Catalog, TrainingImage
from forwardinf.index.store import Index
from forwardinf.jobs.queue import open_queue
from forwardinf.models.generation import GenerationRequest
from forwardinf.records.reading import reading_notes
from forwardinf.records.store import FolderStore
from forwardinf.web import forms, training_view, view
from forwardinf.web.build import build
from forwardinf.web.served import Served
from forwardinf.web.worker import Worker

APPLE = TrainingImage(
    id="openmoji-1f34e",
    file_name="pictures/openmoji/1f34e.webp",
    collection="openmoji",
    creator="Liz Bravo",
    licence="CC-BY-SA-4.0",
    licence_url="https://creativecommons.org/licenses/by-sa/4.0/",
    source_package="openmoji",
    source_version="17.0.0",
    source_file="color/svg/1F34E.svg",
    source_url="https://openmoji.org/library/emoji-1F34E/",
    caption="red apple, OpenMoji style",
    subject="red apple",
    group="food-drink",
    subgroup="food-fruit",
    tags="apple, fruit",
    width=128,
    height=128,
    sha256="ab" * 32,
    phash="0" * 16,
    split="train",
    repeats=1,
)
PEAR = replace(APPLE, id="openmoji-1f350", creator="Emily Jäger", caption="pear, OpenMoji style", subject="pear")
NOTO_APPLE = replace(
    APPLE,
    id="noto-1f34e",
    collection="noto",
    creator="Google LLC (Noto Emoji authors)",
    licence="Apache-2.0",
    source_package="emoji-datasource-google",
    source_url="https://github.com/googlefonts/noto-emoji",
    caption="red apple, Noto style",
    repeats=25,
)
FLAG = replace(APPLE, id="openmoji-1f1e6", creator="Ada Held", caption="flag, OpenMoji style", split="held_out")
CATALOG = Catalog(Path("emoji"), (NOTO_APPLE, FLAG, APPLE, PEAR))


# Forms


@pytest.mark.parametrize("seed", [7, 7.0, "7", "7.0"])
def test_a_number_field_may_arrive_as_int_float_or_text(seed):
    assert forms.generation_request("red apple", seed, 25, 3) == GenerationRequest("red apple", 7, 25, 3.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((None, 0, 25, 3), "prompt is empty"),
        (("apple", None, 25, 3), "seed is empty"),
        (("apple", "", 25, 3), "seed is empty"),
        (("apple", 1.5, 25, 3), "seed is 1.5"),
        (("apple", float("nan"), 25, 3), "seed is nan"),
        (("apple", True, 25, 3), "seed is “True”"),
        (("apple", [1], 25, 3), "seed is “[1]”"),
        (("apple", -1, 25, 3), "seed is -1"),
        (("apple", 2**32, 25, 3), "seed is 4294967296"),
        (("apple", 0, "many", 3), "number of steps is “many”"),
        (("apple", 0, 0, 3), "number of steps is 0"),
        (("apple", 0, 101.0, 3), "number of steps is 101"),
        (("apple", 0, 25, None), "guidance is empty"),
        (("apple", 0, 25, "x" * 999), "guidance is “…”"),
        (("apple", 0, 25, 10**400), "guidance is “…”"),
        (("apple", 0, 25, float("inf")), "guidance is inf"),
        (("apple", 0, 25, 20.5), "guidance is 20.5"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(fields, message):
    with pytest.raises(InvalidRequest) as refusal:
        forms.generation_request(*fields)
    assert message in str(refusal.value)
    assert len(str(refusal.value)) < 200


# Search


def search(**fields):
    return [image.id for image in forms.CatalogSearch(**fields).found_in(CATALOG)]


def test_the_default_search_shows_what_was_trained_on_with_styles_side_by_side():
    assert search() == ["noto-1f34e", "openmoji-1f34e", "openmoji-1f350"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("APPLE", ["noto-1f34e", "openmoji-1f34e"]),
        ("app noto", ["noto-1f34e"]),
        ("emily jäger", ["openmoji-1f350"]),
        ("pple", []),
        ("  ,  ", ["noto-1f34e", "openmoji-1f34e", "openmoji-1f350"]),
        ("flag", []),
    ],
)
def test_words_are_found_by_their_beginnings_in_captions_and_creators(text, found):
    assert search(text=text) == found


def test_filters_narrow_a_search():
    assert search(collection="noto") == ["noto-1f34e"]
    assert search(repeated=True) == ["noto-1f34e"]
    assert search(licence="Apache-2.0") == ["noto-1f34e"]
    assert search(split="held_out") == ["openmoji-1f1e6"]
    assert len(search(split=forms.EVERY_SPLIT)) == 4


# Rendering


def unread(end: str) -> tuple[str, ...]:
    model: Any = SimpleNamespace(reads_prompts=True, unread_text=lambda prompt: end)
    return reading_notes(model, "a red apple")


def test_nothing_is_remarked_on_a_prompt_that_is_read_and_known():
    assert view.reading_remarks((), knows_a_word=True) == ""


def test_a_remark_says_what_was_not_read():
    remark = view.reading_remarks(unread("on a <b>hill</b>"), knows_a_word=True)
    assert 'role="status"' in remark
    assert "was ignored: “on a &lt;b&gt;hill&lt;/b&gt;”" in remark


def test_a_prompt_without_a_known_word_gets_that_remark_alone():
    remark = view.reading_remarks(unread("яблоко"), knows_a_word=False)
    assert remark.count('role="status"') == 1
    assert "No word of this prompt" in remark


def test_a_long_unread_end_is_shortened_in_the_middle():
    remark = view.reading_remarks(unread("beginning " + "filler " * 100 + "end"), knows_a_word=True)
    assert "“beginning" in remark
    assert "end”" in remark
    assert len(remark) < 400


def test_a_problem_is_an_alert_and_is_escaped():
    shown = view.problem("The seed is “<script>”.", "Not generated")
    assert 'role="alert"' in shown
    assert "<script>" not in shown


def test_a_credit_names_creator_licence_source_and_use():
    shown = training_view.credit(NOTO_APPLE, "picture.webp")
    for part in ("Google LLC (Noto Emoji authors)", "Apache License 2.0", "emoji-datasource-google 17.0.0"):
        assert part in shown
    assert 'href="https://github.com/googlefonts/noto-emoji"' in shown
    assert "shown 25 times per epoch" in shown
    assert "times per epoch" not in training_view.credit(APPLE, "picture.webp")


def test_text_and_addresses_of_a_catalog_are_not_trusted():
    hostile = replace(APPLE, caption="<i>x</i>", creator="<b>", source_url="javascript:alert(1)", id='"><script>')
    shown = training_view.credit(hostile, 'u"rl') + training_view.gallery([hostile], lambda image: 'u"rl')
    for raw in ("<i>x", "<b>", "javascript:", "<script>", 'u"rl'):
        assert raw not in shown


def test_tiles_have_alternative_text_and_tell_repeated_pictures():
    shown = training_view.gallery([NOTO_APPLE], lambda image: "picture.webp")
    assert 'alt="red apple, Noto style"' in shown
    assert "×25" in shown


def test_every_creator_of_the_catalog_is_credited():
    shown = training_view.creators(CATALOG)
    assert all(image.creator in shown for image in CATALOG.images)
    assert "not trained on: Ada Held." in shown


def test_collections_are_credited_with_licence_counts_and_package():
    shown = training_view.collections(CATALOG)
    assert "3 creators" in shown
    assert 'href="https://openmoji.org"' in shown
    assert shown.count("CC BY-SA 4.0") == 1
    assert "emoji-datasource-google 17.0.0" in shown


def test_counts_tell_trained_from_held_out():
    shown = training_view.counts(CATALOG)
    assert "<b>3</b> images trained on" in shown
    assert "<b>1</b> of these shown 25 times per epoch" in shown
    assert "<b>1</b> held out" in shown


def test_found_says_how_many_and_how_many_are_shown():
    assert "No image matches" in training_view.found(0, 0, 0)
    assert ">1 image<" in training_view.found(1, 0, 1)
    assert ">1 to 60 of 3,065 images<" in training_view.found(3065, 0, 60)
    assert ">3,061 to 3,065 of 3,065 images<" in training_view.found(3065, 3060, 5)


def test_a_model_cards_front_matter_is_left_out():
    assert view.without_front_matter("---\nlicense: mit\n---\n# Card\n---\nend") == "# Card\n---\nend"
    assert view.without_front_matter("# Card") == "# Card"


def test_only_pictures_beside_a_text_are_its_pictures():
    markdown = "![a](sheet.png) [b](card.png) ![c](../secret.png) ![d](https://x.org/e.png) ![f](.env) ![g](h_1.webp)"
    assert view.pictures_beside(markdown) == ["sheet.png", "h_1.webp"]


def test_every_page_is_laid_out_without_waiting_for_the_model(tmp_path):
    index, loading = Index.open(ASSETS / "emoji-index"), Future()
    loading.set_exception(AssertionError("a page asked for the model"))
    runs = open_queue(tmp_path / "runs", tmp_path)
    app = build(Served(index, ASSETS / "emoji-diffusion", loading, FolderStore(tmp_path), Worker(), tmp_path, runs))
    shown = str(app.get_config_file())
    assert index.info.fingerprint in shown
    assert "Model card" in shown
    assert "Licences of the artwork" in shown


def test_what_an_image_folder_does_not_say_is_not_shown_as_if_it_were_known():
    plain = replace(APPLE, collection="my-pictures", source_package="unknown", source_version="", source_url="")
    assert "<dt>Source</dt>" not in training_view.credit(plain, "picture.webp")
    shown = training_view.collections(Catalog(Path("mine"), (plain,)))
    assert "<strong>my-pictures</strong>" in shown
    assert "Source" not in shown
    assert "Held out" not in shown
