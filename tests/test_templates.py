"""Templates escape what they are given, and refuse to leave a gap."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from forwardinf.web import templates

FOLDER = Path(templates.__file__).with_name("templates")


def test_values_are_escaped_and_markup_is_not():
    shown = templates.render("page_title.html", title="<b>", lead=Markup("<i>x</i>"))
    assert "&lt;b&gt;" in shown
    assert "<i>x</i>" in shown


def test_a_missing_value_is_an_error_and_not_a_gap():
    with pytest.raises(UndefinedError, match="lead"):
        templates.render("page_title.html", title="x")


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.*")), ids=lambda path: path.name)
def test_no_template_turns_escaping_off(path: Path):
    text = path.read_text(encoding="utf-8")
    assert "|safe" not in text.replace(" ", "")
    assert "autoescape" not in text
