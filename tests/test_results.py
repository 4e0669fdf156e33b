"""Kept results: whole or absent, one link for one question, and how they are shown."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from forwardinf.errors import DamagedAsset, MissingAsset
from forwardinf.examples.catalog import Catalog, TrainingImage
from forwardinf.records.store import ResultStore
from forwardinf.web import results_view

IMAGE = TrainingImage(
    "openmoji-1", "1.webp", "openmoji", "Ada <b>", "CC-BY-SA-4.0", "https://example.org/licence", "openmoji", "1.0",
    "1.svg", "https://example.org", "apple, OpenMoji style", "apple", "food", "fruit", "", 64, 64, "ab" * 32, "",
    "train", 1,
)  # fmt: skip
ROW = {
    "rank": 1, "id": "openmoji-1", "score": 3.25, "standard_error": 0.5, "similarity": 0.9, "similarity_rank": 4,
    "per_draw": [1.0, -2.0], "p_value": 0.02, "stands_out": True, "rank_range": [1, 3],
    "collection": "openmoji", "creator": "Ada <b>", "licence": "CC-BY-SA-4.0",
}  # fmt: skip
RECORD = {
    "version": "0", "caution": "Careful.", "seconds": 2.0, "file_name": "a.png",
    "query": {"sha256": "00" * 32, "prompt": "", "notes": []}, "method": {"name": "forward_inf", "steps": 1},
    "mirrored": {"loss_before": 0.1, "loss_after": 0.11}, "model": {"name": "m", "fingerprint": "f", "tunable": "all"},
    "index": {"fingerprint": "i", "examples": 1234, "draws": 2, "draw_seed": 0}, "results": [ROW],
    "confidence": {"stand_out": 1, "false_discovery_rate": 0.1, "reference_queries": 40},
    "groups": {key: [{"name": ROW[key], "images": 1, "mean_rank": 1.0, "p_value": 0.0004}]
               for key in ("collection", "creator", "licence")},
}  # fmt: skip


def test_a_kept_result_comes_back_whole(tmp_path: Path):
    store = ResultStore(tmp_path / "results")
    kept = store.save(RECORD, "id,rank\n", b"original", b"png")
    loaded = store.load(kept.id)
    assert loaded.record == RECORD
    assert (loaded.csv.read_text(), loaded.picture.read_bytes()) == ("id,rank\n", b"png")
    assert (loaded.folder / "query.bin").read_bytes() == b"original"
    assert [path.name for path in store.folder.iterdir()] == [kept.id]


def test_the_same_question_has_the_same_link_and_another_question_another(tmp_path: Path):
    store = ResultStore(tmp_path)
    first = store.save(RECORD, "", b"", b"")
    assert store.save({**RECORD, "seconds": 9.0, "file_name": "b.png"}, "", b"", b"").id == first.id
    other = {**RECORD, "query": {**RECORD["query"], "prompt": "another"}}
    assert store.save(other, "", b"", b"").id != first.id
    assert len(list(tmp_path.iterdir())) == 2


def test_what_fails_half_way_leaves_nothing(tmp_path: Path):
    store = ResultStore(tmp_path)
    with pytest.raises(TypeError):
        store.save({**RECORD, "results": [object()]}, "", b"", b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["", "..", "../..", "0123456789abcdef", "0123456789ABCDEF", "a/b"])
def test_a_link_that_names_no_result_is_refused(tmp_path: Path, wrong: str):
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(MissingAsset):
        ResultStore(tmp_path / "results").load(wrong)


def test_a_damaged_result_is_refused(tmp_path: Path):
    store = ResultStore(tmp_path)
    kept = store.save(RECORD, "", b"", b"")
    kept.json.write_text("{")
    with pytest.raises(DamagedAsset, match=kept.id):
        store.load(kept.id)


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
    [(True, [1, 3], "stands outno. 1 to 3"), (False, [1, 1], "stays no. 1"), (None, [1, 1], "stays no. 1")],
)
def test_a_finished_gallery_marks_what_stands_out_and_how_steady_its_rank_is(stands_out, rank_range, told):
    row = {**ROW, "stands_out": stands_out, "rank_range": rank_range}
    shown = results_view.answer({**RECORD, "results": [row]}, {IMAGE.id: IMAGE}, lambda image: "u", IMAGE.id)
    assert 'aria-pressed="true"' in shown
    assert re.sub("<[^>]+>", "", shown) == f"13.2 ± 0.5{told}appleAda &lt;b&gt; · CC BY-SA 4.0"


def test_a_gallery_in_which_nothing_stands_out_is_quiet():
    def shown(stand_out: int | None) -> str:
        record = {**RECORD, "confidence": {**RECORD["confidence"], "stand_out": stand_out}}
        return results_view.answer(record, {IMAGE.id: IMAGE}, lambda image: "u", IMAGE.id)

    assert ["fi-quiet" in shown(found) for found in (0, 1, None)] == [True, False, False]


def test_an_image_whose_caption_stood_for_the_prompt_says_so():
    lent = {**ROW, "lent_caption": True}
    images, record = {IMAGE.id: IMAGE}, {**RECORD, "results": [lent], "query": {**RECORD["query"], "borrowed": "apple"}}
    assert "lent its caption" in results_view.answer(record, images, lambda image: "u", IMAGE.id)
    assert "scores higher for it: give the prompt" in results_view.finished(record, "00" * 8)
    assert "as no prompt was given" in results_view.detail(lent, IMAGE, "query.png", "image.png")
    quiet = {**record, "results": [{**lent, "stands_out": False}]}
    assert "give the prompt" not in results_view.finished(quiet, "00" * 8)
    assert "lent its caption" not in results_view.answer(RECORD, images, lambda image: "u", IMAGE.id)


def test_a_rank_over_a_single_draw_is_not_called_steady():
    single = {**ROW, "per_draw": [1.0], "rank_range": [1, 1]}
    shown = results_view.answer({**RECORD, "results": [single]}, {IMAGE.id: IMAGE}, lambda image: "u", IMAGE.id)
    assert "stays" not in shown + results_view.detail(single, IMAGE, "query.png", "image.png")


def test_what_was_compared_are_the_training_images():
    trained = {**RECORD, "index": {**RECORD["index"], "trained": 1200}}
    assert "1,200 training images compared in 2&nbsp;s" in results_view.finished(trained, "00" * 8)
    assert "1,234 images compared" in results_view.finished(RECORD, "00" * 8)  # of an earlier version


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (0, "No training image stands out: what follows is merely similar."),
        (1, "1 of these stands out (false-discovery rate 10%)."),
        (5, "5 of these stand out (false-discovery rate 10%)."),
        (6, "6 training images stand out (false-discovery rate 10%); listed here: 5."),
        (None, "scores of 8 reference pictures, too few to say whether any image stands out: that takes 9."),
    ],
)
def test_the_verdict_says_how_many_stand_out_or_that_none_does(found, told):
    asked = 8 if found is None else 40
    confidence = {**RECORD["confidence"], "stand_out": found, "reference_queries": asked}
    shown = results_view.finished({**RECORD, "confidence": confidence, "results": [ROW] * 5}, "00" * 8)
    assert told in shown
    assert ("pictures that the model never saw" in shown) == (found is not None)


def test_the_detail_keeps_influence_and_likeness_apart_and_credits():
    shown = results_view.detail(ROW, IMAGE, "query.png", "image.png")
    text = re.sub("<[^>]+>", " ", shown)
    assert "3.25 ± 0.50" in text
    assert "0.90  (no. 4 in looks alone)" in text
    assert "yes  (p = 0.02" in text
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
    rows = [{**ROW, "rank": n + 1, "creator": f"creator {n}"} for n in range(11)]
    trained = tuple(replace(IMAGE, id=f"i{n}", creator=f"creator {n}") for n in range(11))
    shown = results_view.credits({**RECORD, "results": rows}, Catalog(Path(), trained))
    assert "<tr><td>creator 7</td><td>1</td><td>1.0</td></tr>" in shown
    assert "<tr><td>3 others</td><td>3</td><td>3.0</td></tr>" in shown


def test_groups_are_tested_apart_from_the_credits_and_folded_where_no_image_stands_out():
    tested = [{"name": f"<i>{n}", "images": 1200, "mean_rank": n + 1.0, "p_value": n / 40} for n in range(11)]
    record = {**RECORD, "groups": {**RECORD["groups"], "creator": tested}}
    shown = results_view.whole_groups(record)
    assert "<tr><td>&lt;i&gt;0</td><td>1,200</td><td>1</td><td>&lt; 0.001</td></tr>" in shown
    assert "<tr><td>3 others</td><td></td><td></td><td>from 0.200</td></tr>" in shown
    assert "Creator, 11 tested" in shown
    assert "OpenMoji" in shown
    assert "<details" in shown
    assert " open>" in shown
    none = results_view.whole_groups({**record, "confidence": {**RECORD["confidence"], "stand_out": 0}})
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
