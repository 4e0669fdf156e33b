"""What a page says of an answer, without a browser."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from made_records import match, record
from test_web_view import APPLE

from forwardinf.records.record import AdapterRecord, GroupRecord, Record
from forwardinf.records.store import Result
from forwardinf.web import match_view, results_view

NULL = tuple(float(score) for score in range(1, 30))
KNOWN = {"threshold": 27.0, "highest_of_null": NULL}
STRONG = match(score=268.0, subject="flamingo", creator="Microsoft", licence="MIT", repeats=25)
WEAK = match(rank=2, id="openmoji-2", score=9.0, stands_out=False, p_value=0.7, subject="pick")
HOSTILE = '"><img src=x onerror=alert(1)>'


def url_of(example_id: str) -> str:
    return f"thumbnails/{example_id}.webp"


def whole_page(shown: Record, chosen: str | None = None) -> str:
    """Everything that the page shows of an answer."""
    first = shown.results[0]
    return "".join(
        (
            results_view.finished(shown, "0" * 16, "data:query"),
            results_view.tiles(shown, url_of, chosen),
            match_view.match(shown, first, APPLE, "data:query", "data:match"),
            match_view.no_match(shown),
            results_view.more(shown, "0" * 16),
        )
    )


# The verdict


def test_the_verdict_names_image_creator_and_licence_and_the_prompt_that_was_used():
    shown = results_view.finished(record(STRONG, query={"prompt": "a bird"}), "0" * 16, "data:query")
    assert "<h2>Flamingo, by Microsoft (MIT), stands out.</h2>" in shown
    assert "None of 29 pictures that the model never saw scored as high" in shown
    assert "Prompt used: <span>“a bird”</span>" in shown
    assert "neither copying nor infringement" in shown


def test_scripts_can_tell_what_was_answered():
    shown = results_view.finished(record(STRONG, query={"prompt": 'a "b"'}), "0123456789abcdef", "data:query")
    assert 'data-result="0123456789abcdef"' in shown
    assert f'data-query="{"00" * 32}"' in shown
    assert 'data-prompt="a &#34;b&#34;"' in shown


def test_it_is_said_why_the_model_knows_an_image_by_heart():
    assert "showed the model “apple, OpenMoji style” 25 times" in results_view.finished(record(STRONG), "0" * 16, "")
    assert "showed the model" not in results_view.finished(record(match()), "0" * 16, "")
    weak = match(stands_out=False, repeats=25)
    assert "showed the model" not in results_view.finished(record(weak), "0" * 16, "")


def test_a_fallback_caption_is_told_where_no_prompt_was_given():
    shown = results_view.finished(record(STRONG, query={"fallback_caption": "red apple"}), "0" * 16, "")
    assert "No prompt was given, so the caption of the most similar training image was used: “red apple”." in shown
    assert 'data-prompt=""' in shown


def test_an_answer_that_could_not_be_kept_says_so():
    assert "The disk is full." in results_view.finished(record(STRONG), "0" * 16, "", "The disk is full.")


# The scale


def test_the_scale_marks_score_and_threshold_at_their_places():
    shown = results_view.scale(record(match(score=100.0), confidence={"threshold": 50.0, "highest_of_null": (25.0,)}))
    places = [float(place) for place in re.findall(r'<i class="[^"]*" style="left: ([\d.]+)%', shown)]
    score, threshold, null = (100 * share / 106 for share in (100, 50, 25))
    assert {round(place, 1) for place in places} == {round(place, 1) for place in (score, threshold, null)}
    assert "Highest score 100. An image stands out above 50; the highest of 1 pictures" in shown


def test_the_scale_shows_the_best_image_where_none_stands_out_and_it_is_no_mark_of_success():
    shown = results_view.scale(record(WEAK, confidence=KNOWN))
    assert shown.count('class="fi-dot') == 1
    assert "fi-out" not in shown
    assert results_view.scale(record(STRONG, WEAK, confidence=KNOWN)).count("fi-dot fi-out") == 1


def test_there_is_no_scale_without_a_threshold():
    assert results_view.scale(record(STRONG)) == ""


# The tiles


def test_what_stands_out_is_large_and_the_rest_is_folded():
    shown = results_view.tiles(record(STRONG, WEAK), url_of, STRONG.id)
    large, folded = shown.split("<details")
    assert "flamingo" in large
    assert "Microsoft · MIT" in large
    assert "pick" not in large
    assert "1 more: not distinguishable from chance" in folded
    assert "pick" in folded
    assert " open" not in folded.partition(">")[0]


def test_where_nothing_stands_out_nothing_is_pressed_and_all_is_folded():
    shown = results_view.tiles(record(WEAK), url_of, None)
    assert "aria-pressed" not in shown
    assert "fi-large" not in shown
    assert shown.index("<details") < shown.index("<button")
    assert "1 highest-ranking images: not distinguishable from chance" in shown


def test_where_it_is_not_known_what_stands_out_nothing_is_folded():
    unknown = match(stands_out=None, p_value=None)
    shown = results_view.tiles(record(unknown, confidence={"stand_out": None}), url_of, unknown.id)
    assert "<details" not in shown
    assert "chance" not in shown


# The match


def test_a_match_tells_how_sure_it_is_and_whose_it_is():
    shown = match_view.match(record(STRONG), STRONG, APPLE, "data:query", "data:match")
    for part in ("Rank 1 of 1,234", "p = 0.03: none of 29 pictures", "1–3", "shown 25 times per epoch", "Microsoft"):
        assert part in shown
    assert 'href="https://example.org/licence"' in shown


def test_a_match_tells_what_the_adapter_learned_of_it():
    learned, forgot = (match(adapter=AdapterRecord(loss=loss, loss_without=0.08)) for loss in (0.02, 0.1))
    shown = match_view.match(record(learned), learned, APPLE, "", "")
    assert "75% less error" in shown
    assert "mean denoising error 0.0200 with it, 0.0800 without" in shown
    assert "25% more error" in match_view.match(record(forgot), forgot, APPLE, "", "")
    assert "adapter" not in match_view.match(record(), match(), APPLE, "", "")


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"p_value": None, "stands_out": None}, "no null distribution"), ({"stands_out": None}, "too few pictures")],
)
def test_a_match_of_which_nothing_is_known_says_why(changes: dict[str, None], told: str):
    unknown = match(**changes)
    assert told in match_view.match(record(unknown), unknown, APPLE, "", "")


def test_the_last_bars_of_the_noise_levels_are_explained_where_they_measure_something_else():
    by_error, by_size = match(per_draw=(1.0, -2.0), size_draws=0), match(per_draw=(1.0, -2.0), size_draws=1)
    shown = match_view.match(record(by_size), by_size, APPLE, "", "")
    assert "The last bar measures the size of the model’s prediction" in shown
    assert '--size: 0.500" class="fi-up"' in shown
    assert '--size: 1.000" class="fi-down"' in shown
    assert "last bar" not in match_view.match(record(by_error), by_error, APPLE, "", "")


# Below the tiles


def test_group_tests_are_folded_with_the_effect_size_first():
    groups = {kind: [GroupRecord(name="x", images=9, mean_rank=5, outranks=0.53, p_value=1.6e-14)]
              for kind in ("collection", "licence", "creator")}  # fmt: skip
    shown = results_view.more(record(WEAK, groups=groups), "0" * 16)
    assert "<details open" not in shown
    assert "<td>x</td><td>53%</td><td>&lt; 0.001</td><td>9</td>" in shown
    assert '<th scope="col">Ranks above</th>' in shown


def test_shares_stand_beside_what_chance_would_give():
    groups = {kind: [GroupRecord(name=name, images=images, mean_rank=5, outranks=0.5, p_value=1)
                     for name, images in (("Ada <b>", 617), ("Microsoft", 1))]
              for kind in ("collection", "licence", "creator")}  # fmt: skip
    shown = results_view.more(record(STRONG, WEAK, groups=groups), "0" * 16)
    assert "<td>Ada &lt;b&gt;</td><td>1</td><td>1.0</td>" in shown
    assert "<td>Microsoft</td><td>1</td><td>0.0</td>" in shown


# All of it


def test_no_text_of_a_record_is_trusted():
    hostile = match(**dict.fromkeys(("id", "caption", "subject", "collection", "creator", "licence"), HOSTILE),
                    licence_url="javascript:alert(1)")  # fmt: skip
    query = {"prompt": HOSTILE, "notes": (HOSTILE,), "file_name": HOSTILE}
    shown = whole_page(record(hostile, query=query, index={"name": HOSTILE}, confidence=KNOWN))
    assert "<img src=x" not in shown
    assert "javascript:" not in shown


@pytest.mark.parametrize("found", [(STRONG, WEAK), (WEAK,), (match(is_fallback_caption=True),)])
def test_the_page_has_no_terms_of_the_workshop(found: tuple):
    shown = whole_page(record(*found, query={"fallback_caption": "red apple"}, confidence=KNOWN))
    words = re.sub(r"<[^>]*>", " ", shown).lower()
    for term in ("stays no.", "lent", "draws", "split", "habit", "borrowed"):
        assert not re.search(rf"\b{re.escape(term)}", words), term


def test_a_card_says_in_a_line_what_stands_out():
    strong = Result("0" * 16, record(STRONG, query={"prompt": "a bird"}), "", b"", b"png")
    none = Result("1" * 16, record(WEAK), "", b"", b"png")
    shown = results_view.cards([(strong, ""), (none, "Not generated")], url_of)
    assert 'href="?result=0000000000000000"' in shown
    assert "<strong>Flamingo stands out</strong>" in shown
    assert "by Microsoft" in shown
    assert "<strong>Nothing stands out</strong>" in shown
    assert "Not generated" in shown
    assert results_view.cards([], url_of) == ""


def test_progress_tells_how_long_it_still_takes():
    assert "30 s left" in results_view.progress(1, 4, 0, 10, 30)
    assert "1 of at most 4 images" in results_view.progress(1, 4, 0, 10, 30, at_most=True)
    assert "left" not in results_view.progress(1, 4, 0, 10, 30, at_most=True)
    assert "3 min left" in results_view.progress(1, 4, 0, 10, 180)
    assert "left" not in results_view.progress(0, 4, 0, 10, float("inf"))


def test_an_answer_of_likely_images_says_so_and_tests_no_groups():
    weighed = {"images": 500, "first": 10, "ended": "the time was up", "overlooked": 0.3}
    empty = {"collection": [], "creator": [], "licence": []}
    made = record(weighed=weighed, groups=empty)
    assert "500 of 1,234 training images were weighed" in results_view.finished(made, "id", "data:")
    shown = results_view.more(made, "id")
    assert "as a whole" not in shown
    assert "By chance" not in shown


def test_what_is_foreseen_has_no_scores_yet():
    image = SimpleNamespace(id="a", caption="apple <b>", subject="apple")
    shown = results_view.foreseen([image], lambda example_id: f"/{example_id}")
    assert "not yet weighed" in shown
    assert "apple &lt;b&gt;" in shown
    assert "fi-score" not in shown
