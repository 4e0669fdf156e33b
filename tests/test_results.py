"""How finished answers are shown."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_records import MATCH, match, record

from forwardinf.examples.catalog import Catalog, TrainingImage
from forwardinf.records.record import GroupRecord
from forwardinf.web import results_view

IMAGE = TrainingImage(
    "openmoji-1", "1.webp", "openmoji", "Ada <b>", "CC-BY-SA-4.0", "https://example.org/licence", "openmoji", "1.0",
    "1.svg", "https://example.org", "apple, OpenMoji style", "apple", "food", "fruit", "", 64, 64, "ab" * 32, "",
    "train", 1,
)  # fmt: skip
RECORD = record()


def test_a_gallery_that_is_not_final_says_so():
    shown = results_view.so_far(0.4, [("openmoji-1", 3.25, 0.5)], {IMAGE.id: IMAGE}, lambda image: "u?a&b")
    assert 'data-id="openmoji-1"' in shown
    text = re.sub("<[^>]+>", "", shown)
    assert (
        text == "So far, after 40% of the images; the order still changes.13.2 ± 0.5appleAda &lt;b&gt; · CC BY-SA 4.0"
    )
    assert "fi-partial" in shown
    assert "u?a&amp;b" in shown
    assert "fi-partial" not in results_view.answer(RECORD, {IMAGE.id: IMAGE}, lambda image: "u", IMAGE.id)


@pytest.mark.parametrize(
    ("stands_out", "rank_range", "told"),
    [(True, (1, 3), "stands outno. 1 to 3"), (False, (1, 1), "stays no. 1"), (None, (1, 1), "stays no. 1")],
)
def test_a_finished_gallery_marks_what_stands_out_and_how_steady_its_rank_is(stands_out, rank_range, told):
    row = match(stands_out=stands_out, rank_range=rank_range)
    shown = results_view.answer(record(row), {IMAGE.id: IMAGE}, lambda image: "u", IMAGE.id)
    assert 'aria-pressed="true"' in shown
    assert re.sub("<[^>]+>", "", shown) == f"13.2 ± 0.5{told}appleAda &lt;b&gt; · CC BY-SA 4.0"


def test_a_gallery_in_which_nothing_stands_out_is_quiet():
    def shown(stand_out: int | None) -> str:
        return results_view.answer(
            record(confidence={"stand_out": stand_out}), {IMAGE.id: IMAGE}, lambda image: "u", IMAGE.id
        )

    assert ["fi-quiet" in shown(found) for found in (0, 1, None)] == [True, False, False]


def test_an_image_whose_caption_stood_for_the_prompt_says_so():
    lent, images = match(is_fallback_caption=True), {IMAGE.id: IMAGE}
    unprompted = record(lent, query={"fallback_caption": "apple"})
    assert "lent its caption" in results_view.answer(unprompted, images, lambda image: "u", IMAGE.id)
    assert "give the prompt" in results_view.finished(unprompted, "00" * 8)
    assert "as no prompt was given" in results_view.detail(lent, IMAGE, "query.png", "image.png")
    quiet = record(match(is_fallback_caption=True, stands_out=False), query={"fallback_caption": "apple"})
    assert "give the prompt" not in results_view.finished(quiet, "00" * 8)
    assert "lent its caption" not in results_view.answer(RECORD, images, lambda image: "u", IMAGE.id)


def test_a_rank_over_a_single_draw_is_not_called_steady():
    single = match(per_draw=(1.0,), rank_range=(1, 1))
    shown = results_view.answer(record(single), {IMAGE.id: IMAGE}, lambda image: "u", IMAGE.id)
    assert "stays" not in shown + results_view.detail(single, IMAGE, "query.png", "image.png")


def test_the_verdict_leads_a_finished_answer():
    shown = results_view.finished(RECORD, "00" * 8)
    assert "<strong>Apple, by Ada &lt;b&gt; (CC BY-SA 4.0), stands out.</strong> None of 29 pictures" in shown
    assert "1,234 training images compared in 2&nbsp;s" in shown


def test_the_detail_keeps_influence_and_likeness_apart_and_credits():
    shown = results_view.detail(MATCH, IMAGE, "query.png", "image.png")
    text = re.sub("<[^>]+>", " ", shown)
    assert "3.25 ± 0.50" in text
    assert "0.90  (no. 4 in looks alone)" in text
    assert "yes  (p = 0.03" in text
    assert "1; no. 1 to 3  when one of 2 draws is left out" in text
    assert "Ada &lt;b&gt;" in shown
    assert 'href="https://example.org/licence"' in shown
    assert shown.count("fi-up") == shown.count("fi-down") == 1


def test_roll_ups_count_beside_what_chance_would_give():
    trained = tuple(replace(IMAGE, id=f"i{n}", creator="Ada <b>" if n < 1 else "Bo") for n in range(4))
    shown = results_view.credits(RECORD, Catalog(Path(), trained))
    assert "<tr><td>Ada &lt;b&gt;</td><td>1</td><td>0.2</td></tr>" in shown
    assert "OpenMoji" in shown
    assert "CC BY-SA 4.0" in shown


def test_many_creators_are_summed_up_after_the_first_eight():
    rows = [match(rank=n + 1, creator=f"creator {n}") for n in range(11)]
    trained = tuple(replace(IMAGE, id=f"i{n}", creator=f"creator {n}") for n in range(11))
    shown = results_view.credits(record(*rows), Catalog(Path(), trained))
    assert "<tr><td>creator 7</td><td>1</td><td>1.0</td></tr>" in shown
    assert "<tr><td>3 others</td><td>3</td><td>3.0</td></tr>" in shown


def test_groups_are_tested_apart_from_the_credits_and_folded_where_no_image_stands_out():
    tested = [
        GroupRecord(name=f"<i>{n}", images=1200, mean_rank=n + 1.0, outranks=0.5, p_value=n / 40) for n in range(11)
    ]
    shown = results_view.whole_groups(record(groups={"creator": tested}))
    assert "<tr><td>&lt;i&gt;0</td><td>1,200</td><td>1</td><td>&lt; 0.001</td></tr>" in shown
    assert "<tr><td>3 others</td><td></td><td></td><td>from 0.200</td></tr>" in shown
    assert "Creator, 11 tested" in shown
    assert "OpenMoji" in shown
    assert "<details" in shown
    assert " open>" in shown
    none = results_view.whole_groups(record(groups={"creator": tested}, confidence={"stand_out": 0}))
    assert " open>" not in none
    assert "No single image stands out here" in none
    assert "No single image" not in shown


def test_progress_says_how_far_how_fast_and_how_long():
    text = re.sub("<[^>]+>", "", results_view.progress(710, 1000, 60, 412.4, 5.2))
    assert text == "71% · 710 of 1,000 images, 60 held out as a check · 412 images/s · 5&nbsp;s left"
    assert "held out" not in results_view.progress(710, 1000, 0, 412.4, 5.2)
    assert "2&nbsp;min left" in results_view.progress(1, 1000, 0, 8.0, 121)
    assert "after 710 of 1,000 images, 60 held out as a check." in results_view.stopped(710, 1000, 60)


def test_what_reproduces_a_result_is_told():
    shown = results_view.reproduced_by(RECORD)
    for told in ("forward_inf", "0.10000 → 0.11000", "(empty)", "all", "00" * 32):
        assert told in shown


def test_the_bar_that_tells_of_the_predictions_size_says_so():
    shown = results_view.by_noise([1.0, 2.0], sized=1)
    assert 'title="noise level 1 of 2: 1.0"' in shown
    assert 'title="noise level 2 of 2, by the size of the prediction: 2.0"' in shown
    assert "The last bar is of how strong the model’s prediction is" in shown
    assert "how strong" not in results_view.by_noise([1.0, 2.0])
