"""A prompt drawn without some training images: the weights are as before, and the others stand beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution import counterfactual as core
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.counterfactual import MOST_RISE, Counterfactual, Redrawn, counterfactual
from forwardinf.cli.main import app
from forwardinf.errors import InvalidRequest
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.models.sd import StableDiffusion
from forwardinf.types import ModelSpec

HELD_OUT = 2


@pytest.fixture(scope="module")
def attributor(tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    model = StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="attention"))
    folder = write_patches(tmp_path_factory.mktemp("patches"), 8)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for line in lines[-HELD_OUT:]:
        line["split"] = "held_out"
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    index = build_index(model, training_images(folder), folder / "index", BuildPlan(2, 6, 2))
    return Attributor(model, index)


def weights(attributor: Attributor) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in attributor.model.tunable_parameters().values()]


def test_each_step_is_reported_and_leaves_the_weights_as_they_were(attributor: Attributor):
    before = weights(attributor)
    steps = []
    for now in counterfactual(attributor, "patch 1", ["01.png"], seeds=(3, 4)):
        steps.append((now.steps, len(now.of_prompt), len(now.unrelated)))
        assert all(torch.equal(*pair) for pair in zip(before, weights(attributor), strict=True))
    assert steps == [(1, 0, 0), (2, 0, 0), (3, 1, 0), (4, 2, 0), (5, 2, 1), (6, 2, 2)]
    assert now.total == 6
    assert [one.seed for one in (*now.of_prompt, *now.unrelated)] == [3, 4, 3, 3]
    assert {one.prompt for one in now.unrelated} == {"patch 6", "patch 7"}
    assert len(now.random) == 1
    assert not set(now.random) & {"01.png"}
    assert 0.05 < now.loss_after / now.loss_before - 1 <= MOST_RISE


def test_what_is_unlearned_is_what_was_chosen(attributor: Attributor):
    *_, one = counterfactual(attributor, "patch 1", ["01.png"], seeds=(0,))
    *_, other = counterfactual(attributor, "patch 1", ["02.png", "03.png", "02.png"], seeds=(0,))
    assert other.chosen == ("02.png", "03.png")
    assert len(other.random) == 2
    assert one.of_prompt[0].before.tobytes() == other.of_prompt[0].before.tobytes()
    drawn = {picture.tobytes() for picture in (one.of_prompt[0].without_chosen, other.of_prompt[0].without_chosen)}
    assert len(drawn) == 2
    assert all(-1 <= one.of_prompt[0].chosen_likeness <= 1 + 1e-6 for one in (one, other))


def test_the_same_question_has_the_same_answer(attributor: Attributor):
    first, second = (list(counterfactual(attributor, "patch 1", ["01.png"], seeds=(0,)))[-1] for _ in range(2))
    assert first.random == second.random
    assert first.of_prompt[0].chosen_likeness == second.of_prompt[0].chosen_likeness


def test_it_says_what_changed_beside_what_chance_changes():
    def redrawn(chosen: float, by_chance: float) -> Redrawn:
        return Redrawn("p", 0, None, None, None, chosen, by_chance)

    found = Counterfactual(
        ("a",), ("b",), of_prompt=(redrawn(0.25, 1.0), redrawn(0.75, 0.5)), unrelated=(redrawn(0.9, 1),)
    )
    assert "by 0.50; without a random one, by 0.75" in found.in_words
    assert "Other prompts: 0.90" in found.in_words
    assert "these 2 images" in replace(found, chosen=("a", "b")).in_words


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ([], "0 images were chosen"),
        ([f"{i}.png" for i in range(51)], "51 images were chosen"),
        (["none.png"], "no training image “none.png”"),
        (["07.png"], "no training image “07.png”"),  # held out
        ([f"0{i}.png" for i in range(4)], "too few other training images"),
    ],
)
def test_what_cannot_be_unlearned_is_refused(attributor: Attributor, chosen: list[str], told: str):
    with pytest.raises(InvalidRequest, match=told):
        next(counterfactual(attributor, "patch 1", chosen))


def test_the_command_line_prints_it_and_keeps_the_pictures(
    tiny_checkpoint: Path, patches_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(core, "LEAST_RISE", 0.05)  # an untrained model has no loss to rise to
    monkeypatch.setattr(core, "USUAL_RISE", 0.05)
    where = ["--index", str(patches_index), "--model", str(tiny_checkpoint), "-o", str(tmp_path / "out")]
    asked = ["counterfactual", "patch 1", "--without", "01.png", "--seed", "5", *where]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "“patch 1”, seed 5: without them" in done.output
    names = ["0-before.png", "0-without-chosen.png", "0-without-random.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    drawn = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)["drawn"]
    assert [one["seed"] for one in drawn] == [5]
