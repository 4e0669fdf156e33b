"""What is told of an index that decides no score: how it was built, what was skipped, what belongs, whose images."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from test_adapters import lora
from typer.testing import CliRunner

from conftest import write_patches
from forwardinf.attribution.build_whole import WholePlan, build_whole
from forwardinf.cli.main import app
from forwardinf.errors import DamagedAsset
from forwardinf.examples.metadata import TrainingFolder, read_training_folder
from forwardinf.index.about_file import read_about, tell_about
from forwardinf.index.build import BuildPlan
from forwardinf.index.store import Index
from forwardinf.models.registry import load_model
from forwardinf.records.csv import credits_as_csv
from forwardinf.types import Adapter, ModelSpec
from forwardinf.web.index_view import about_index

PLAN = WholePlan(BuildPlan(draws=2, fisher_images=2, fisher_draws=1), sketch=False, null_pictures=0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> TrainingFolder:
    """Twelve patches, five of them held out, and a file that is no picture under a hostile name."""
    folder = write_patches(tmp_path_factory.mktemp("patches"), 12)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for row in rows[7:]:
        row["split"] = "held_out"
    rows[0] |= {"creator": "=Grace", "licence": "MIT", "url": "https://github.com/grace/pictures/blob/0.png"}
    rows[1] |= {"url": "https://github.com/ada/art/1.png"}
    (folder / "<b>.png").write_bytes(b"no picture")
    lines = [*map(json.dumps, rows), json.dumps({"file_name": "<b>.png", "text": "broken"})]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return read_training_folder(folder)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, pictures: TrainingFolder) -> Index:
    """The index of a model with a LoRA that states nothing."""
    work = tmp_path_factory.mktemp("about")
    spec = ModelSpec(
        str(tiny_checkpoint), adapter=Adapter(str(lora(work / "style.safetensors")), 0.5), tunable="adapter"
    )
    return build_whole(load_model(spec), pictures, work / "index", PLAN, lambda *_: None)


def test_it_says_from_what_and_with_what_an_index_was_built_and_what_was_skipped(built: Index):
    about = read_about(built.manifest)
    assert (about.layout, about.picture_size, about.adapter) == ("metadata.jsonl", 16, "style.safetensors:0.5")
    assert about.skipped[0].startswith("line 13: “<b>.png” ")
    verdicts = {one.of: one.verdict for one in about.belongs}
    assert verdicts["pictures"] == verdicts["base"] == "not stated"
    assert "errors" in verdicts


def test_it_is_no_part_of_the_fingerprint_and_stays_when_the_same_is_built_again(built: Index):
    about, content = read_about(built.manifest), (built.folder / "about.json").read_bytes()
    again = tell_about(built, type(about)(**{**vars(about), "built_at": ""}))
    assert again is built
    changed = tell_about(built, type(about)(**{**vars(about), "built_at": "", "notes": ("another",)}))
    assert changed.fingerprint == built.fingerprint
    assert read_about(changed.manifest).notes == ("another",)
    (built.folder / "about.json").write_bytes(content)  # told anew, it would have another time
    built.manifest.write()


def test_a_damaged_one_is_named(built: Index, tmp_path: Path):
    other = tmp_path / "index"
    other.mkdir()
    (other / "about.json").write_text('{"notes": 3}')
    manifest = type(built.manifest)(other, {}).with_files("about.json")
    with pytest.raises(DamagedAsset, match=r"about\.json"):
        read_about(manifest)


def test_the_page_tells_all_of_it_and_trusts_none(built: Index):
    shown = about_index(built, read_about(built.manifest))
    for part in ("style.safetensors:0.5", "16 × 16 pixels", "7 trained on, 5 held out, 1 skipped", "metadata.jsonl"):
        assert part in shown
    assert "&lt;b&gt;.png" in shown
    assert "<b>.png" not in shown
    assert "Not stated by the LoRA’s file: repeats, tags" in shown


def test_an_index_of_before_says_that_it_is_not_known(patches_index: Path):
    index = Index.open(patches_index)
    shown = about_index(index, read_about(index.manifest))
    assert "built before that was kept" in shown
    assert "Skipped pictures" not in shown


def test_credits_are_a_table_of_sources_that_no_spreadsheet_runs(built: Index):
    rows = list(csv.DictReader(io.StringIO(credits_as_csv(built.catalog))))
    assert [(row["creator"], row["url"], row["images"], row["held_out"]) for row in rows] == [
        ("Ada", "", "5", "5"),
        ("'=Grace", "https://github.com/grace/pictures", "1", "0"),
        ("Ada", "https://github.com/ada/art", "1", "0"),
    ]
    told = CliRunner().invoke(app, ["index", "credits", str(built.folder)])
    assert told.stdout.splitlines() == credits_as_csv(built.catalog).splitlines()
