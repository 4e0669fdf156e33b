"""The finished trials that ship are those of the model, index and methods that ship: no study asks them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import ASSETS
from forwardinf.attribution.attributor import Attributor
from forwardinf.cli.options import method_from
from forwardinf.cli.suite import CONTENDERS, RETRIEVED_BY, Contender
from forwardinf.examples.catalog import Catalog
from forwardinf.methods.registry import load_method
from forwardinf.studies.custom_cases import CustomCases
from forwardinf.studies.customisation import NULL_PICTURES, Customisation
from forwardinf.studies.ground_truth import GroundTruth
from forwardinf.studies.journal import Journal
from forwardinf.studies.leave_k_out import JOURNAL
from forwardinf.studies.retraining import Retraining
from forwardinf.studies.self_retrieval import SelfRetrieval
from forwardinf.studies.settings import settings_on

STUDIES = ASSETS / "studies"
ARTWORK, SHIPPED = ASSETS / "emoji", ASSETS / "emoji-diffusion"
FORWARD_INF = load_method("forward_inf")
by_name = pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)


@pytest.fixture(scope="module")
def attributor() -> Attributor:
    return Attributor.load()


def method_of(contender: Contender) -> object:
    return method_from(contender.method, list(contender.setting))


def settings_in(report: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((STUDIES / report).read_text(encoding="utf-8"))["settings"]
    return found


def finished(journal: str, settings: dict[str, Any]) -> int:
    return len(list(Journal(STUDIES / journal).trials_with(settings)))


def test_calibration(attributor: Attributor):
    settings = settings_on(attributor, FORWARD_INF)
    assert settings_in("calibration.json") == settings
    assert finished("calibration.jsonl", settings) == 440


@by_name
def test_self_retrieval(attributor: Attributor, contender: Contender):
    if contender.name not in RETRIEVED_BY:
        assert not (STUDIES / f"self-retrieval-{contender.name}.json").exists()
        return
    settings = SelfRetrieval().settings(attributor, method_of(contender))
    assert settings_in(f"self-retrieval-{contender.name}.json") == settings
    assert finished("self_retrieval.jsonl", settings) == 400


@by_name
def test_customisation(contender: Contender):
    cases = CustomCases.open(ASSETS / "customisation", Catalog.load(ARTWORK), SHIPPED)
    study = Customisation("reported", null_pictures=NULL_PICTURES if contender.name == "forward_inf" else 0)
    settings = study.settings(cases, "all", method_of(contender))
    report = settings_in(f"customisation-{contender.name}.json")
    assert report == settings | {"cases": study.cases, "pictures": study.pictures}
    made = {t["made"] for t in Journal(STUDIES / "customisation.jsonl").trials_with(settings)}
    assert made >= {cases.fingerprint_of(case) for case in study.chosen(cases)}


def test_leave_k_out(tmp_path: Path):
    lab = ASSETS / "lab"
    truth = GroundTruth.open(lab, Catalog.load(ARTWORK), SHIPPED)
    settings = Retraining(truth, Journal(tmp_path / "none.jsonl")).settings
    assert len(list(Journal(lab / JOURNAL).trials_with(settings))) == 157
