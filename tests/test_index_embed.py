"""An index that is given another embedder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_embedders import image_folder, pictures
from typer.testing import CliRunner

from conftest import ASSETS
from forwardinf.attribution.attributor import Attributor
from forwardinf.cli.main import app
from forwardinf.embedders.registry import load_embedder
from forwardinf.errors import IndexMismatch, InvalidRequest
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.embed import embed_anew
from forwardinf.index.store import Index
from forwardinf.models.sd import StableDiffusion

PLAN = BuildPlan(draws=2, fisher_images=2, fisher_draws=1)


def test_an_index_embedded_anew_is_the_same_but_for_its_neighbours(tiny_model: StableDiffusion, tmp_path: Path):
    source, embedder = training_images(image_folder(tmp_path)), load_embedder("artwork", tiny_model)
    index = build_index(tiny_model, source, tmp_path / "index", PLAN)
    before = dict(index.manifest.files)
    made = embed_anew(index, embedder, source, tmp_path / "new")
    assert Index.open(index.folder).manifest.files == before
    changed = {name for name, digest in made.manifest.files.items() if before.get(name) != digest}
    assert changed == {"index.json", "neighbours.faiss"}
    assert made.manifest.files.keys() == before.keys()
    found = Attributor(tiny_model, made)  # which loads the embedder by its name
    for i, picture in enumerate(pictures()):
        assert int(found.similarities(picture).argmax()) == i
    built = build_index(tiny_model, source, tmp_path / "built", replace(PLAN, embedder="artwork"))
    assert built.manifest.files["index.json"] == made.manifest.files["index.json"]
    with pytest.raises(InvalidRequest, match="“new” is there already"):
        embed_anew(index, embedder, source, tmp_path / "new")
    with pytest.raises(IndexMismatch, match="was built from other images than “emoji” holds"):
        embed_anew(index, embedder, Catalog.load(ASSETS / "emoji"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_index_is_embedded_anew_on_the_command_line(tiny_checkpoint: Path, tmp_path: Path):
    folder, index, new = image_folder(tmp_path), tmp_path / "index", tmp_path / "new"
    *lines, last = (folder / "metadata.jsonl").read_text().splitlines()
    (folder / "metadata.jsonl").write_text("\n".join([*lines, last.replace("}", ', "split": "held_out"}')]))
    build = ["index", "build", str(folder), "--draws", "2", "--tunable", "attention", "--model", str(tiny_checkpoint)]
    assert CliRunner().invoke(app, [*build, "--out", str(index)]).exit_code == 0
    anew = ["index", "embed", str(index), "--images", str(folder), "--out", str(new), "--model", str(tiny_checkpoint)]
    done = CliRunner().invoke(app, anew)
    assert "5 images by artwork, no null" in done.output
    assert Index.open(index).null_changes is not None
    assert Index.open(new).null_changes is None
    again = CliRunner().invoke(app, [*build, "--out", str(new), "--embedder", "artwork"])
    assert "1 null pictures" in again.output
    assert Index.open(new).sketches is not None
