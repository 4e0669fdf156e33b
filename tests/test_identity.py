"""Whatever decides a result is part of its key: each ingredient of each key changes it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from forwardinf.attribution.attributor import Attributor
from forwardinf.examples.catalog import Catalog, TrainingImage
from forwardinf.files.identity import digest_of
from forwardinf.index.null_file import NullInTheMaking
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.methods.random import Random
from forwardinf.methods.registry import kept_file
from forwardinf.studies import settings as studies
from forwardinf.studies.journal import Journal
from forwardinf.studies.settings import settings_on


def test_a_digest_is_of_the_content_alone():
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert len(digest_of({}, 12)) == 12
    assert digest_of({}).startswith(digest_of({}, 12))
    different = [{"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": None}, {"a": True}, {"b": 1}, [1, 2], [2, 1], [[1], 2], "é"]
    assert len({digest_of(value) for value in different}) == len(different)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}])
def test_what_does_not_equal_itself_or_is_not_json_has_no_digest(value: object):
    with pytest.raises((ValueError, TypeError)):
        digest_of({"a": value})


def test_keys_of_earlier_versions_stay():
    """Cached scores and journals that people have are named by these."""
    assert digest_of({"b": 1, "a": [True, None, "ü"]}, 16) == "2aa982c6a192b2ee"
    assert digest_of(["trak", 4096, 0], 16) == "53d63a10ee045c82"


# What methods keep for all queries


def cache_key(**changes: Any) -> Path | None:
    given = {
        "name": "trak",
        "setting": 4096,
        "model": "m",
        "tunable": "all",
        "dtype": "float32",
        "index": "i",
    } | changes
    spec = SimpleNamespace(tunable=given["tunable"], dtype=given["dtype"])
    model = SimpleNamespace(fingerprint=given["model"], spec=spec)
    training_set = SimpleNamespace(fingerprint=given["index"], cache=Path("cache"))
    return kept_file(training_set, model, given["name"], given["setting"])


@pytest.mark.parametrize("ingredient", ["name", "setting", "model", "tunable", "dtype", "index"])
def test_a_cache_is_named_by_all_that_decides_its_content(ingredient: str):
    assert cache_key() == cache_key()
    assert cache_key(**{ingredient: "other"}) != cache_key()


# What two answers must share


def attributor(**changes: Any) -> Any:
    """An attributor of stand-ins, for what it tells of itself."""
    given = {"model": "m", "tunable": "all", "index": "i", "whole": "w", "reference": None} | changes
    stand_in = SimpleNamespace(
        model=SimpleNamespace(fingerprint=given["model"], spec=SimpleNamespace(tunable=given["tunable"])),
        index=SimpleNamespace(measured_fingerprint=given["index"], fingerprint=given["whole"]),
        null_changes=lambda method: given["reference"],
    )
    stand_in.comparable_settings = lambda method: Attributor.comparable_settings(stand_in, method)
    return stand_in


@pytest.mark.parametrize(
    ("method", "tunable"),
    [
        (ForwardInf(steps=2), "all"),
        (ForwardInf(loss_budget=0.2), "all"),
        (Random(), "all"),
        (ForwardInf(), "attention"),
    ],
)
def test_scores_compare_only_by_the_same_method_settings_and_weights(method: Any, tunable: str):
    kept = Attributor.comparable_settings(attributor(), ForwardInf())
    assert Attributor.is_comparable(attributor(), kept, ForwardInf())
    assert not Attributor.is_comparable(attributor(tunable=tunable), kept, method)


NULL = SimpleNamespace(queries=("a", "b"))


@pytest.mark.parametrize(
    ("ingredient", "change"),
    [
        ("method", {"method": ForwardInf(steps=2)}),
        ("tunable", {"tunable": "attention"}),
        ("model", {"model": "other"}),
        ("index", {"index": "other"}),
        ("index", {"reference": NULL}),
        ("reference_queries", {"reference": NULL}),
        ("version", {"version": "other"}),
    ],
)
def test_a_studys_settings_hold_all_that_a_score_depends_on(
    ingredient: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    before = settings_on(attributor(), ForwardInf())
    if "version" in change:
        monkeypatch.setattr(studies, "__version__", change.pop("version"))
    method = change.pop("method", ForwardInf())
    after = settings_on(attributor(**change), method)
    assert after[ingredient] != before[ingredient]


def test_a_studys_settings_tell_one_null_from_another():
    first, second = (settings_on(attributor(reference=NULL, whole=whole), ForwardInf()) for whole in "ab")
    assert first != second


@pytest.mark.parametrize("changed", ["method", "tunable", "model", "index", "reference_queries", "version"])
def test_trials_of_other_settings_are_not_taken(tmp_path: Path, changed: str):
    settings = settings_on(attributor(), ForwardInf())
    other = settings | {changed: {"name": "random"} if changed == "method" else "other"}
    journal = Journal(tmp_path / "trials.jsonl")
    journal.append({"settings": settings, "query": "a"})
    assert len(list(journal.trials_with(settings))) == 1
    assert not list(journal.trials_with(other))


# A null that is resumed


@pytest.mark.parametrize("changed", ["index", "settings", "queries"])
def test_a_null_that_was_begun_otherwise_is_not_resumed(tmp_path: Path, changed: str):
    plan = {"index": "i", "settings": {"method": {"name": "forward_inf"}, "tunable": "all"}, "queries": ("a", "b")}
    others = {"index": "j", "settings": {"method": {"name": "forward_inf"}, "tunable": "none"}, "queries": ("a", "c")}
    NullInTheMaking.begin(tmp_path, **plan).put("a", True, torch.ones(2, 3))
    assert NullInTheMaking.begin(tmp_path, **plan).has("a", prompted=True)
    assert not NullInTheMaking.begin(tmp_path, **plan | {changed: others[changed]}).has("a", prompted=True)


# A training set


IMAGE = TrainingImage(
    **{field.name: 1 if field.type == "int" else field.name for field in fields(TrainingImage)}  # type: ignore[arg-type]
)


@pytest.mark.parametrize("name", [field.name for field in fields(TrainingImage)])
def test_a_training_set_is_known_by_all_that_its_images_are_but_not_by_where_they_lie(name: str):
    first, second = (Catalog(Path(), (image,)) for image in (IMAGE, replace(IMAGE, **{name: 2})))
    assert (first.sources != second.sources) == (name != "file_name")
    assert bool(first.difference(second)) == (name != "file_name")


def test_only_one_place_makes_keys():
    package = Path(__file__).parent.parent / "forwardinf"
    for path in package.rglob("*.py"):
        if path.name != "identity.py":
            source = path.read_text(encoding="utf-8")
            assert "sha256(json.dumps" not in source, path
