"""How the picture in question is shown, and which prompts are offered to generate from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_web_view import APPLE, CATALOG, FLAG, NOTO_APPLE, PEAR

from forwardinf.examples.catalog import Catalog
from forwardinf.examples.decoding import Picture
from forwardinf.models.generation import GenerationRequest
from forwardinf.web import query_view


def test_a_drawn_picture_carries_its_bytes_its_request_and_a_download():
    hostile = GenerationRequest('"><img src=x onerror=alert(1)>', seed=7, steps=9, guidance=2.5)
    shown = query_view.drawn_picture(b"png", "ab" * 32, hostile, 1.26)
    assert shown.count("data:image/png;base64,cG5n") == 2
    assert "seed 7 · 9 steps · guidance 2.5 · 1.3 s" in shown
    assert "<img src=x" not in shown
    assert 'download="img-src-x-onerror-alert-1-seed-7.png"' in shown
    assert f'data-sha256="{"ab" * 32}"' in shown


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("红苹果", "红苹果-seed-0.png"),
        ("../a/b", "a-b-seed-0.png"),
        ("…", "picture-seed-0.png"),
        ("con\0\u202e", "con-seed-0.png"),
    ],
)
def test_a_file_name_is_safe_in_every_system_and_keeps_its_script(prompt: str, name: str):
    assert query_view.file_name(GenerationRequest(prompt)) == name


def test_examples_are_captions_of_the_index_that_the_model_knows_best():
    assert query_view.examples(CATALOG) == [NOTO_APPLE.caption, APPLE.caption, PEAR.caption]
    assert query_view.examples(CATALOG, 1) == ["red apple, Noto style"]  # the one shown 25 times
    unlabelled = Catalog(Path("emoji"), (replace(APPLE, caption=""), FLAG))
    assert query_view.examples(unlabelled) == []


def test_examples_take_turns_among_collections():
    images = tuple(
        replace(APPLE, id=f"{name}-{n}", caption=f"{name} {n}", collection=name) for name in "ab" for n in "12"
    )
    assert query_view.examples(Catalog(Path("emoji"), images)) == ["a 1", "b 1", "a 2", "b 2"]


def test_a_given_picture_shows_what_was_read_and_nothing_is_trusted():
    picture = Picture(None, "ab" * 32, "PNG", (40, 20), "RGB", ("<b>turned</b>",))  # type: ignore[arg-type]
    shown = query_view.given_picture(b"png", '"><script>.png', picture)
    assert "PNG · 40 × 20" in shown
    assert "SHA-256 abababababab…" in shown
    assert "<script>" not in shown
    assert "<b>" not in shown
