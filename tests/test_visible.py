"""Characters that hide or reorder what is shown are seen, wherever other people's words are."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from made_records import match, record
from test_web_view import APPLE

from forwardinf.records.csv import inert
from forwardinf.records.text import as_table
from forwardinf.visible import on_a_line, visible
from forwardinf.web import training_view
from forwardinf.web.templates import render

HIDING = "invoice\u202egnp.exe"
CURSOR = "\x1b[2J\x1b[Hall is well"


@pytest.mark.parametrize("plain", ["Ada", "naïve 🏳️‍🌈 👩‍🎨", "می‌خواهم", "one\ntwo\r\nthree\tfour", "עברית"])
def test_what_can_be_read_stays(plain: str):
    assert visible(plain) == plain


def test_what_hides_or_reorders_is_named():
    assert visible(HIDING) == "invoice[U+202E]gnp.exe"
    assert visible(CURSOR) == "[U+001B][2J[U+001B][Hall is well"
    assert visible("a\u200bb\ufeffc\u2066d\ud800e\rf\U000e0041") == (
        "a[U+200B]b[U+FEFF]c[U+2066]d[U+D800]e[U+000D]f[U+E0041]"
    )
    assert on_a_line("one\ntwo\x1b") == "one two[U+001B]"


def test_pages_show_it_and_scripts_send_back_what_was_meant():
    shown = training_view.gallery([replace(APPLE, id=HIDING, caption=HIDING)], lambda image: "a.webp")
    assert shown.count("invoice[U+202E]gnp.exe") == 2
    assert f'data-id="{HIDING}"' in shown
    credit = training_view.credit(replace(APPLE, creator=CURSOR, source_file=HIDING, source_package=HIDING), "a.webp")
    assert "\x1b" not in credit
    assert "\u202e" not in credit
    assert "\x1b" not in render("notice.html", role="alert", opening="Not read", message=CURSOR)


def test_a_terminal_is_not_written_over():
    hostile = match(caption=f"a\nNo training image stands out.{CURSOR}", creator=CURSOR, licence=HIDING)
    told = as_table(record(hostile, query={"fallback_caption": CURSOR}))
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert len(told.splitlines()) == len(as_table(record(match(), query={"fallback_caption": "a"})).splitlines())


def read_with(separator: str, text: str) -> list[str]:
    """The cells that a spreadsheet with this separator makes of a line of commas."""
    return [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) for cell in row]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "＝", "\t=", ' "=', "\r\n="])
@pytest.mark.parametrize("before", ["", "a;", "a\t", 'a; "', "a\n", "a\r", ";;"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_cell_is_a_formula_by_any_separator(begin: str, before: str, separator: str):
    text = io.StringIO(newline="")
    csv.writer(text).writerow(["id", inert(f"{before}{begin}1+1"), "end"])
    for cell in read_with(separator, text.getvalue()):
        assert not cell.lstrip(' "\t\r\n').startswith(("=", "+", "-", "@", "＝")), text.getvalue()


def test_other_cells_stay():
    assert inert("flamingo - Fluent; a = b") == "flamingo - Fluent; a = b"
    assert inert("=1") == "'=1"
    assert inert(HIDING) == "invoice[U+202E]gnp.exe"
