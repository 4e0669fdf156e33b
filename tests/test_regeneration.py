"""What the model draws again: a planted picture of its own is found, and chance is what held-out images show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution import regeneration
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.regeneration import Drawn, Regeneration, regenerated
from forwardinf.cli.main import app
from forwardinf.errors import InvalidRequest
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.models.generation import GenerationRequest
from forwardinf.models.sd import StableDiffusion
from forwardinf.types import ModelSpec

OWN, PATCH, HELD_OUT = "own.png", "00.png", 3


@pytest.fixture(scope="module")
def attributor(tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    """Of colour patches, some held out, and a picture that the model draws from its caption with seed 1."""
    model = StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="attention"))
    folder = write_patches(tmp_path_factory.mktemp("patches"), 6)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for line in lines[-HELD_OUT:]:
        line["split"] = "held_out"
    model.generate(GenerationRequest("green pear", seed=1)).save(folder / OWN)
    lines.append({"file_name": OWN, "text": "green pear"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    index = build_index(model, training_images(folder), folder / "index", BuildPlan(2, 2, 1))
    return Attributor(model, index)


def test_the_seed_that_drew_an_image_is_nearest_to_it_and_nearer_than_chance(attributor: Attributor):
    *_, found = regenerated(attributor, OWN, seeds=3)
    assert found.finished
    assert [drawn.seed for drawn in found.drawn] == [0, 1, 2]
    assert found.nearest.seed == 1
    assert found.nearest.likeness > 0.99
    assert found.nearest.likeness > max(found.reach)
    assert len(found.reach) == HELD_OUT
    assert found.near >= 1


def test_each_picture_is_reported_as_it_comes_and_what_chance_shows_after(attributor: Attributor):
    steps = [(len(now.drawn), len(now.reach)) for now in regenerated(attributor, PATCH, seeds=2)]
    assert steps == [(1, 0), (2, 0), (2, 1), (2, 2), (2, 3)]


def test_chance_is_drawn_once_for_an_index(attributor: Attributor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    *_, first = regenerated(attributor, PATCH, seeds=1, cache=tmp_path)
    drawn: list[str] = []
    draw = regeneration._drawn
    monkeypatch.setattr(regeneration, "_drawn", lambda of, image, seed: drawn.append(image.id) or draw(of, image, seed))
    *_, again = regenerated(attributor, OWN, seeds=1, cache=tmp_path)
    assert drawn == [OWN]
    assert again.reach == first.reach
    monkeypatch.setattr(regeneration, "OTHERS", 2)  # others than before, so what is kept does not serve
    *_, fewer = regenerated(attributor, OWN, seeds=1, cache=tmp_path)
    assert len(drawn) == 1 + 1 + 2
    assert len(fewer.reach) == 2


@pytest.mark.parametrize(
    ("likenesses", "reach", "told"),
    [
        ((0.9, 0.99), (0.5, 0.7), "All 2 pictures drawn from its caption came nearer"),
        ((0.6, 0.99), (0.5, 0.7), "1 of 2 pictures"),
        ((0.6, 0.1), (0.5, 0.7), "None of 2 pictures"),
        ((0.6, 0.1), (), "no held-out image"),
    ],
)
def test_it_says_how_often(likenesses: tuple[float, ...], reach: tuple[float, ...], told: str):
    drawn = tuple(Drawn(seed, None, likeness) for seed, likeness in enumerate(likenesses))
    found = Regeneration(None, len(drawn), drawn, len(reach), reach)
    assert told in found.in_words
    assert f"{max(likenesses):.2f}" in found.in_words


def test_what_cannot_be_drawn_is_refused(attributor: Attributor):
    for example_id, seeds, told in (("none", 2, "no image “none”"), (OWN, 0, "at least 1")):
        with pytest.raises(InvalidRequest, match=told):
            next(regenerated(attributor, example_id, seeds))
    images = attributor.index.catalog.images
    bare = replace(attributor.index.catalog, images=tuple(replace(image, caption="") for image in images))
    silent = replace(attributor, index=_Renamed(attributor.index, bare))
    with pytest.raises(InvalidRequest, match="no caption"):
        next(regenerated(silent, OWN))


class _Renamed:
    """An index with another catalog."""

    def __init__(self, index, catalog) -> None:
        self._index, self.catalog = index, catalog

    def __getattr__(self, name: str):
        return getattr(self._index, name)


def test_the_command_line_prints_and_keeps_the_pictures(tiny_checkpoint: Path, patches_index: Path, tmp_path: Path):
    where = [
        "--index",
        str(patches_index),
        "--model",
        str(tiny_checkpoint),
        "--seeds",
        "2",
        "-o",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(app, ["regenerate", "00.png", *where])
    assert done.exit_code == 0, done.output
    assert "no held-out image" in done.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["seed-0.png", "seed-1.png"]
    as_json = CliRunner().invoke(app, ["regenerate", "00.png", *where, "--json"])
    assert [drawn["seed"] for drawn in json.loads(as_json.stdout)["drawn"]] == [0, 1]
