"""Records of answers: typed, the same JSON for the same answer, read back from earlier versions, put into words."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from made_records import match, record
from pydantic import ValidationError

from forwardinf.errors import DamagedAsset
from forwardinf.records.csv import COLUMNS, as_csv
from forwardinf.records.text import as_table, credited, fallback_note, licence_name, verdict_of, with_verdict
from forwardinf.records.upgrade import read_record

KEPT = Path(__file__).parent / "kept" / "f7bb05f312dbfbda"  # as version 0.1.0 kept it, with schema 1


# The type


def test_a_record_comes_back_from_its_json():
    made = record(match(standard_error=None, p_value=None, stands_out=None), mirrored=None)
    assert read_record(made.to_json()) == made
    assert made.to_json() == read_record(made.to_json()).to_json()
    assert list(json.loads(made.to_json()))[:3] == ["schema", "version", "answered_at"]
    assert json.loads(made.to_json())["answered_at"] == "2026-01-02T03:04:05Z"


def test_a_record_cannot_be_changed_or_hold_what_it_does_not_know():
    with pytest.raises(ValidationError):
        record().version = "1"
    with pytest.raises(ValidationError):
        record(query={"sha": "typo"})
    with pytest.raises(ValidationError):
        record(seconds=float("nan"))


def test_a_name_that_utf8_cannot_hold_is_replaced():
    made = record(query={"file_name": "caf\udce9.png", "prompt": "\ud800"})
    assert (made.query.file_name, made.query.prompt) == ("caf?.png", "?")
    assert made.to_json().encode()


@pytest.mark.parametrize(
    "wrong",
    ["", "{", "null", "[]", "{}", '{"schema": 2}', '{"schema": "2"}', '{"schema": 0}', '"text"', "\0"],
)
def test_what_is_no_record_is_refused(wrong: str):
    with pytest.raises(DamagedAsset):
        read_record(wrong)


def test_a_record_of_a_later_version_says_so():
    with pytest.raises(DamagedAsset, match=r"schema 3; this version of Forward-INF reads up to 2"):
        read_record(json.dumps({**json.loads(record().to_json()), "schema": 3}))


# Earlier versions


def test_a_record_without_a_schema_is_read():
    kept = json.loads((KEPT / "record.json").read_text())
    read = read_record((KEPT / "record.json").read_text())
    assert read.schema_version == 2
    assert (read.version, read.answered_at, read.seconds) == (kept["version"], None, 1.5)
    assert read.query.fallback_caption == kept["query"]["borrowed"] == "patch 2"
    assert (read.query.file_name, read.query.notes) == ("patch.png", ("The picture was turned upright.",))
    assert {"name": read.method.name, **read.method.settings} == kept["method"]
    assert read.mirrored.model_dump() == {**kept["mirrored"], "step_sizes": tuple(kept["mirrored"]["step_sizes"])}
    assert read.confidence.null_pictures == kept["confidence"]["reference_queries"] == 10
    assert (read.confidence.number_standing_out, read.confidence.threshold) == (1, None)
    assert [m.is_fallback_caption for m in read.results] == [True, False]
    for new, old in zip(read.results, kept["results"], strict=True):
        old.pop("lent_caption")
        assert {key: value for key, value in json.loads(new.model_dump_json()).items() if key in old} == old
        assert (new.subject, new.repeats, new.size_draws) == (old["caption"], None, 1)
    assert read.groups.creator[0].outranks == 0.5
    assert as_table(read).startswith("Patch 2, by Ada (CC0-1.0), stands out.")
    assert (
        read.verdict
        == "Patch 2, by Ada (CC0-1.0), stands out. None of 10 pictures that the model never saw scored as high."
    )


def test_a_record_from_before_prompts_could_be_left_out_is_read():
    kept = json.loads((KEPT / "record.json").read_text())
    del kept["query"]["borrowed"], kept["index"]["trained"], kept["file_name"], kept["seconds"]
    for row in kept["results"]:
        del row["lent_caption"]
    read = read_record(json.dumps(kept))
    assert (read.query.fallback_caption, read.index.trained, read.query.file_name, read.seconds) == (None, 24, "", None)
    assert not any(m.is_fallback_caption for m in read.results)


# In words

FLAMINGO = match(subject="flamingo", creator="Microsoft", licence="MIT")
SECOND = match(rank=2, p_value=3 / 30)
REST = match(rank=3, p_value=0.5, stands_out=False)


@pytest.mark.parametrize(
    ("results", "confidence", "headline", "explanation"),
    [
        (
            (FLAMINGO, REST), {}, "Flamingo, by Microsoft (MIT), stands out.",
            "None of 29 pictures that the model never saw scored as high.",
        ),
        (
            (FLAMINGO, match(rank=2), REST), {}, "Flamingo, by Microsoft (MIT), and 1 other stand out.",
            "None of 29 pictures that the model never saw scored as high.",
        ),
        (
            (FLAMINGO, SECOND), {"stand_out": 7}, "Flamingo, by Microsoft (MIT), and 6 others stand out.",
            "2 of 29 pictures that the model never saw scored as high as the last of these. Listed here: 2.",
        ),
        (
            (match(p_value=12 / 30, stands_out=False), REST), {}, "No training image stands out.",
            "11 of 29 pictures that the model never saw scored as high.",
        ),
        (
            (match(p_value=None, stands_out=None),), {"stand_out": None, "null_pictures": 0},
            "It is not known whether any image stands out.",
            "The index has no null distribution for these settings: it was not recorded how high images score for "
            "pictures that the model never saw.",
        ),
        (
            (match(p_value=0.5, stands_out=None),), {"stand_out": None, "null_pictures": 8},
            "It is not known whether any image stands out.",
            "The index holds the scores of 8 pictures that the model never saw, and a verdict takes at least 9. "
            "Build the index with more null pictures (--null).",
        ),
    ],
)  # fmt: skip
def test_the_verdict_names_what_stands_out_and_says_against_what(results, confidence, headline, explanation):
    made = record(*results, confidence=confidence)
    assert (verdict_of(made).headline, verdict_of(made).explanation) == (headline, explanation)
    assert as_table(made).startswith(f"{headline}\n{explanation}\n")
    assert with_verdict(made).verdict == f"{headline} {explanation}"


def test_a_creator_or_licence_that_is_not_known_is_not_named():
    assert credited(match(subject="éclair", creator="unknown", licence="unknown")) == "Éclair"
    assert credited(match(creator="", licence="MIT")) == "Apple (MIT)"


@pytest.mark.parametrize(
    ("spdx", "name"),
    [
        ("CC-BY-SA-4.0", "CC BY-SA 4.0"),
        ("CC-BY-4.0", "CC BY 4.0"),
        ("CC0-1.0", "CC0-1.0"),
        ("MIT", "MIT"),
        ("CC", "CC"),
    ],
)
def test_licences_are_named_as_people_write_them(spdx: str, name: str):
    assert licence_name(spdx) == name


def test_a_fallback_caption_is_told_and_more_so_where_it_raised_what_stands_out():
    assert fallback_note(record()) == ""
    asked = {"fallback_caption": "apple"}
    note = "No prompt was given, so the caption of the most similar training image was used: “apple”."
    assert fallback_note(record(query=asked)) == note
    raised = fallback_note(record(match(is_fallback_caption=True), query=asked))
    assert (
        raised
        == note + " That image stands out, and using its caption raised its score: give the prompt if you know it."
    )
    assert fallback_note(record(match(is_fallback_caption=True, stands_out=False), query=asked)) == note


def test_the_table_has_a_dash_for_what_is_unknown():
    unknown = match(standard_error=None, p_value=None, stands_out=None)
    table = as_table(record(unknown, confidence={"stand_out": None}, query={"notes": ("Turned upright.",)}))
    assert "   1    3.250       –     –       1–3  apple, OpenMoji style" in table
    assert table.endswith("\n\nTurned upright.\nEstimated influence is neither copying nor infringement.")


# As a spreadsheet


def test_a_csv_carries_the_query_the_verdict_and_every_number():
    made = record(query={"prompt": "red apple"})
    unknown = match(rank=2, id="b", standard_error=None, p_value=None, stands_out=None, score=0.1 + 0.2)
    rows = list(csv.DictReader(io.StringIO(as_csv(made, [match(), unknown]), newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["id"], row["rank"]) for row in rows] == [("openmoji-1", "1"), ("b", "2")]
    assert [row["stands_out"] for row in rows] == ["yes", ""]
    assert [(row["standard_error"], row["p_value"]) for row in rows] == [("0.5", str(1 / 30)), ("", "")]
    assert float(rows[1]["score"]) == 0.1 + 0.2
    assert {(row["best_rank"], row["worst_rank"]) for row in rows} == {("1", "3")}
    assert {(row["similarity"], row["similarity_rank"], row["licence_url"]) for row in rows} == {
        ("0.9", "4", "https://example.org/licence")
    }
    assert {(row["query_sha256"], row["prompt"], row["verdict"]) for row in rows} == {
        ("00" * 32, "red apple", "Apple, by Ada <b> (CC BY-SA 4.0), stands out.")
    }


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_cell_of_a_csv_is_run_as_a_formula(start: str):
    hostile = f'{start}HYPERLINK("x"), "patch"\n2'
    texts = ("id", "caption", "collection", "creator", "licence", "licence_url", "source_url")
    made = record(match(subject=hostile), query={"prompt": hostile, "fallback_caption": hostile})
    text = as_csv(made, [match(**dict.fromkeys(texts, hostile))])
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    for key in (*texts, "prompt", "fallback_caption"):
        assert row[key] == f"'{hostile}", key
    assert row["verdict"].startswith(f"'{hostile}, by Ada")


def test_a_csv_shows_nul_bytes_and_keeps_line_breaks_in_one_cell():
    (row,) = csv.DictReader(io.StringIO(as_csv(record(), [match(caption="a\0b\nc")]), newline=""))
    assert row["caption"] == "a[U+0000]b\nc"
