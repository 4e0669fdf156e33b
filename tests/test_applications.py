"""The studies of uses: what they find on problems small enough to check, and how the suite keeps what it found."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from forwardinf.cli.main import app
from forwardinf.errors import InvalidRequest
from forwardinf.studies.applications import hypothesis, leakage, mislabels, registry, turn_over
from forwardinf.studies.applications.labelled import digits, mislabelled
from forwardinf.studies.applications.logistic import RIDGE, LogisticRegression
from forwardinf.studies.applications.protocol import Figure, Found

TINY = replace(hypothesis.QUICK, left_out=12, queries=4, groups=4, group_examples=80, group_queries=40, steps=20)


def test_a_logistic_regression_is_at_its_minimum_with_examples_left_out_and_added():
    few = digits().shuffled(0).part(0, 60)
    fitted = LogisticRegression.fit(few.pictures.flatten(1), few.labels)
    changed = fitted.without(3).with_example(few.pictures[3].flatten(), few.labels[3])

    def objective(theta: torch.Tensor, one: LogisticRegression) -> torch.Tensor:
        losses = torch.nn.functional.cross_entropy(one.inputs @ theta, one.labels, reduction="none")
        return (losses * one.weights).sum() / one.count + RIDGE / 2 * theta.square().sum()

    for one in (fitted, fitted.without(3), changed):
        theta = one.theta.clone().requires_grad_()
        objective(theta, one).backward()
        assert float(theta.grad.norm()) < 1e-9
    assert torch.allclose(changed.theta, fitted.theta, atol=1e-8)  # left out, and added again
    assert not torch.allclose(fitted.without(3).theta, fitted.theta, atol=1e-5)


def test_as_a_network_it_has_the_same_losses():
    few = digits().shuffled(0).part(0, 60)
    fitted = LogisticRegression.fit(few.pictures.flatten(1), few.labels)
    logits = fitted.as_network()(few.pictures)
    losses = torch.nn.functional.cross_entropy(logits, few.labels, reduction="none")
    assert torch.allclose(losses.double(), fitted.of_its_examples, atol=1e-4)


def test_wrong_labels_are_wrong_and_all_others_stay():
    labels, rows = torch.arange(10).repeat(3), torch.tensor([0, 7, 12])
    changed = mislabelled(labels, rows, torch.Generator().manual_seed(0))
    assert (changed != labels).nonzero()[:, 0].tolist() == rows.tolist()


def test_leaving_out_mirrors_adding_and_the_opposite_sign_would_not():
    figures = {(figure.what.split(":")[0], figure.by): figure for figure in hypothesis.run(TINY).figures}
    alone = figures["leave-one-out, logistic regression", "mirrored training"]
    assert alone.value > 0.99
    assert figures["leave-one-out, logistic regression", "forward_inf, one step"].value > 0.3


def test_a_twin_that_ties_with_others_counts_as_after_them():
    scores = torch.tensor([[3.0, 1.0, 3.0, 2.0], [0.0, 5.0, 1.0, 1.0]])
    assert leakage._ranks(scores, torch.tensor([0, 1])) == [2, 1]
    assert leakage._ranks(scores, torch.tensor([1, 0])) == [4, 4]


def test_planted_images_are_found_by_hash_where_they_are_clean_and_every_method_is_asked():
    found = leakage.run(replace(leakage.QUICK, examples=100, epochs=2)).figures
    assert {figure.by for figure in found} == {"forward_inf", "plain", "tracin", "embedding", "perceptual hash"}
    first = {figure.by: figure.value for figure in found if figure.what == "planted, clean: twin first, of 1"}
    assert first["perceptual hash"] == first["embedding"] == 1
    assert len(found) == 2 * 4 * 5


@dataclass(frozen=True)
class Count:
    count: int = 3


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A study that finds how often it was run."""

    def run(size: Count) -> Found:
        study.runs += 1
        figures = (Figure("runs", "mirrored training", study.runs, (0.5, 2.0), goal=1), Figure("runs", "tracin", 0.25))
        return Found(figures, {"all": [(float(i), -float(i)) for i in range(size.count)]}, ("A note.",))

    named = {"NAME": "counting", "TITLE": "Counting", "AXES": ("across", "up"), "FULL": Count(), "QUICK": Count(2)}
    study = SimpleNamespace(runs=0, run=run, **named)
    monkeypatch.setattr(registry, "studies", lambda: {"counting": study})
    return study


def test_what_was_studied_is_kept_and_only_another_size_is_studied_again(counting: SimpleNamespace, tmp_path: Path):
    report = registry.reported(counting, tmp_path, quick=False)
    drawn = (tmp_path / "counting.svg").read_text(encoding="utf-8")
    assert "across, in shares of the largest" in drawn
    assert registry.reported(counting, tmp_path, quick=False) == report
    assert counting.runs == 1
    assert registry.reported(counting, tmp_path, quick=True)["settings"] == {"count": 2}
    (tmp_path / "counting.json").write_text("{", encoding="utf-8")  # cut off
    assert registry.reported(counting, tmp_path, quick=True)["figures"][0]["value"] == 3


def test_the_command_prints_every_figure_with_its_goal(counting: SimpleNamespace, tmp_path: Path):
    asked = ["study", "applications", "--quick", "--reports", str(tmp_path)]
    table = CliRunner().invoke(app, asked).stdout
    assert "| runs | mirrored training | 1.000 (0.500 to 2.000) | ≥ 1: met |" in table
    assert "|  | tracin | 0.250 | – |" in table
    assert "A note." in table
    assert json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)[0]["study"] == "counting"


def test_a_use_that_is_not_studied_is_refused():
    with pytest.raises(InvalidRequest, match="no study of “magic”"):
        registry.require("magic")


def test_masks_keep_half_of_the_units_of_each_example_and_differ():
    made = turn_over.masks(5, 8, seed=0)
    assert made.sum(dim=1).tolist() == [4] * 5
    assert len({tuple(row) for row in made.tolist()}) > 1
    assert torch.equal(made, turn_over.masks(5, 8, seed=0))


def test_what_was_learned_by_heart_is_overwritten_by_images_that_say_otherwise():
    size = mislabels.Size(examples=200, held_out=200, epochs=12, width=4, steps=30)
    case, wrong = mislabels._case(size, rate=0.1, seed=0)
    before = {name: value.clone() for name, value in case.network.state_dict().items()}
    suspected = {
        by: mislabels._measures(mislabels.SUSPICIONS[by](case).numpy(), wrong) for by in ("forward_inf", "loss")
    }
    area = "area under the ROC curve"
    assert suspected["forward_inf"][area] > max(0.85, suspected["loss"][area])
    assert all(torch.equal(before[name], value) for name, value in case.network.state_dict().items())


def test_the_right_examples_are_counted_as_suspected_first():
    wrong = np.array([True, False, True, False])
    measured = mislabels._measures(np.array([4.0, 3.0, 2.0, 1.0]), wrong)
    assert list(measured.values()) == [0.75, 0.5]


def test_every_rival_suspects_every_example():
    size = mislabels.Size(examples=60, held_out=30, epochs=1, width=4, steps=1)
    case, _ = mislabels._case(size, rate=0.1, seed=0)
    for by, suspicion in mislabels.SUSPICIONS.items():
        scores = suspicion(case)
        assert scores.shape == (60,), by
        assert scores.isfinite().all(), by
        assert len(scores.unique()) > 10, by
