"""What a study's trials depend on: each ingredient makes other settings, and what decides nothing makes none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.methods.protocol import AttributionMethod, settings_of
from forwardinf.methods.registry import load_method
from forwardinf.models.sd import StableDiffusion
from forwardinf.studies import settings as room
from forwardinf.studies.customisation import Customisation
from forwardinf.studies.journal import Journal
from forwardinf.studies.self_retrieval import SelfRetrieval
from forwardinf.studies.settings import effective, settings_on
from forwardinf.types import ModelSpec

METHOD = ForwardInf()
Change = Callable[[Attributor], Attributor]


def attributor_with(folder: Path, work: Path, seed: int = 0, draws: int = 1) -> Attributor:
    """A tiny model of a seed with an index of its own."""
    model = StableDiffusion(tiny_pipeline(seed=seed), ModelSpec("tiny", tunable="attention"))
    plan = BuildPlan(draws=draws, fisher_images=2, fisher_draws=1)
    return Attributor(model, build_index(model, training_images(folder), work / f"{seed}-{draws}", plan))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"), 4)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def attributor(folder: Path, work: Path) -> Attributor:
    return attributor_with(folder, work)


def differing(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    return {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}


def null_of(count: int) -> Callable[[Attributor, AttributionMethod], object]:
    return lambda *_: SimpleNamespace(queries=[str(n) for n in range(count)])


def test_a_score_depends_on_its_method_and_each_of_the_methods_settings(attributor: Attributor):
    before = settings_on(attributor, METHOD)
    assert differing(before, settings_on(attributor, METHOD)) == set()
    assert differing(before, settings_on(attributor, load_method("das"))) == {"method"}
    for name in type(METHOD).model_fields.keys() - {"seed"}:  # which is idle by default
        others = {"direction": "descent", "curvature": "none", "score": "skew"}
        value = getattr(METHOD, name)
        other = others.get(name) or (
            not value if isinstance(value, bool) else value / 2 if isinstance(value, float) else value + 1
        )
        assert differing(before, settings_on(attributor, METHOD.changed(**{name: other}))) == {"method"}, name


def test_a_score_depends_on_the_weights_that_move(attributor: Attributor):
    moved = StableDiffusion(attributor.model.pipeline, replace(attributor.model.spec, tunable="cross-attention k,v"))
    other = replace(attributor, model=moved)
    assert differing(settings_on(attributor, METHOD), settings_on(other, METHOD)) == {"tunable"}


def test_a_score_depends_on_the_model_and_its_index(attributor: Attributor, folder: Path, work: Path):
    other = attributor_with(folder, work, seed=1)
    assert differing(settings_on(attributor, METHOD), settings_on(other, METHOD)) == {"model", "index"}


def test_a_score_depends_on_the_index(attributor: Attributor, folder: Path, work: Path):
    other = attributor_with(folder, work, draws=2)
    assert differing(settings_on(attributor, METHOD), settings_on(other, METHOD)) == {"index"}


def test_a_score_depends_on_the_null_distribution_where_there_is_one(
    attributor: Attributor, monkeypatch: pytest.MonkeyPatch
):
    without = settings_on(attributor, METHOD)
    monkeypatch.setattr(Attributor, "null_changes", null_of(9))
    against = settings_on(attributor, METHOD)
    assert differing(without, against) == {"index", "reference_queries"}  # the index with its null
    monkeypatch.setattr(Attributor, "null_changes", null_of(10))
    assert differing(against, settings_on(attributor, METHOD)) == {"reference_queries"}


def test_a_score_depends_on_the_version(attributor: Attributor, monkeypatch: pytest.MonkeyPatch):
    before = settings_on(attributor, METHOD)
    monkeypatch.setattr(room, "__version__", "another")
    assert differing(before, settings_on(attributor, METHOD)) == {"version"}


@pytest.mark.parametrize(
    ("change", "named"),
    [({"prompt": "none"}, "prompt"), ({"candidates": 3}, "candidates"), ({"seed": 1}, "seed")],
)
def test_self_retrieval_depends_on_what_is_ranked_and_how(attributor: Attributor, change: dict[str, Any], named: str):
    before = SelfRetrieval().settings(attributor, METHOD)
    assert before.items() >= settings_on(attributor, METHOD).items()
    assert differing(before, replace(SelfRetrieval(), **change).settings(attributor, METHOD)) == {named}


def test_self_retrieval_depends_on_the_precision(attributor: Attributor):
    before = SelfRetrieval().settings(attributor, METHOD)
    half = SimpleNamespace(**{name: getattr(attributor.model, name) for name in ("fingerprint", "spec")})
    half.spec = replace(half.spec, dtype="float16")
    other = SimpleNamespace(
        **{n: getattr(attributor, n) for n in ("index", "null_changes", "comparable_settings")}, model=half
    )
    assert differing(before, SelfRetrieval().settings(other, METHOD)) == {"dtype"}


def test_customisation_depends_on_its_plan_the_weights_the_draws_and_the_null():
    def settings(study: Customisation, plan: str = "plan", tunable: str = "all") -> dict[str, Any]:
        cases = SimpleNamespace(fingerprint=plan, plan=SimpleNamespace(candidates=["a", "b"]))
        return study.settings(cases, tunable, METHOD)

    before = settings(Customisation())
    assert differing(before, settings(Customisation(), plan="another")) == {"plan"}
    assert differing(before, settings(Customisation(), tunable="attention")) == {"tunable"}
    assert differing(before, settings(Customisation(draws=1))) == {"draws"}
    assert differing(before, settings(Customisation(null_pictures=3))) == {"reference_queries"}
    without = settings(Customisation(null_pictures=0))
    assert differing(before, without) == {"reference_queries", "reference_schema"}


def test_trials_stay_valid_when_a_method_gets_another_setting(tmp_path: Path):
    journal, settings = Journal(tmp_path / "trials.jsonl"), {"method": settings_of(METHOD), "index": "i"}
    older = {key: value for key, value in settings["method"].items() if key != "size_draws"}
    journal.append({"n": 1, "settings": settings | {"method": older}})
    assert [trial["n"] for trial in journal.trials_with(settings)] == [1]
    assert not list(journal.trials_with(settings | {"index": "another"}))
    changed = settings_of(METHOD.changed(size_draws=0))
    assert not list(journal.trials_with(settings | {"method": changed}))


def test_a_setting_that_decides_nothing_makes_no_other_settings():
    def method(**given: object) -> dict[str, Any]:
        return effective({"method": settings_of(METHOD.changed(**given)), "seed": 0})

    assert method(seed=1) == method()  # which decides only draws of the query's own
    assert method(seed=1, own_draws=8) != method(own_draws=8)
    assert method(damping=0.2) != method()


def test_methods_and_settings_that_are_gone_equal_only_themselves():
    gone = {"method": {"name": "forward_inf", "no_longer_there": 1}}
    assert effective(gone) == gone
    assert effective({"method": {"name": "no_longer_there"}}) == {"method": {"name": "no_longer_there"}}
    assert effective({"recipe": 1}) == {"recipe": 1}
