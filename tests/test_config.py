from __future__ import annotations

import pytest

from forwardinf.config import Settings, load_settings
from forwardinf.errors import InvalidSettings


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORWARDINF_PORT", "8080")
    assert load_settings().port == 8080
    assert load_settings(port=9000).port == 9000


@pytest.mark.parametrize(("name", "value"), [("port", "99999"), ("port", "http"), ("dtype", "float8")])
def test_a_wrong_setting_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(f"FORWARDINF_{name.upper()}", value)
    with pytest.raises(InvalidSettings, match=rf"{name}.*{value}"):
        load_settings()


def test_every_setting_is_described():
    assert all(field.description for field in Settings.model_fields.values())
