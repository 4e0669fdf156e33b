"""The finished answers on the first screen: made by one command, and those that ship are of what ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_records import match, record

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.config import EMOJI_ANSWERS, EMOJI_INDEX
from forwardinf.errors import DamagedAsset, MissingAsset
from forwardinf.examples.metadata import training_images
from forwardinf.files.manifest import verify_manifest, write_manifest
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.store import Index
from forwardinf.models.sd import StableDiffusion
from forwardinf.records.record import Record
from forwardinf.records.shipped import LIST, Listed, ShippedAnswers, WithShipped, write_list
from forwardinf.records.store import FolderStore, Result, id_of
from forwardinf.training.answers import EXAMPLES, LISTED, SQUARE, build_answers
from forwardinf.types import ModelSpec

LIMIT = 400_000  # bytes of all that ships


def shipped() -> list[Record]:
    """The records of the shipped answers, in the order of the cards."""
    answers = ShippedAnswers.of(EMOJI_ANSWERS, Index.open(EMOJI_INDEX).fingerprint).answers
    assert all(id_of(result.record) == result.id for result, _ in answers)
    return [result.record for result, _ in answers]


# Those that ship


def test_the_shipped_answers_are_of_the_shipped_index_and_model():
    """Where this fails after a change to the model or its index: run `forwardinf answers build`."""
    verify_manifest(EMOJI_ANSWERS)
    info = Index.open(EMOJI_INDEX).info
    assert len(shipped()) == len(EXAMPLES)
    assert {kept.model.fingerprint for kept in shipped()} == {info.fingerprint}
    assert [kept.query.prompt for kept in shipped()] == [example.prompt for example in EXAMPLES]


def test_the_shipped_answers_show_what_their_cards_say():
    *drawn, borderline, square = shipped()
    assert [kept.standing_out[0].subject for kept in drawn] == ["flamingo", "crown", "pineapple", "snail"]
    assert all(len(kept.standing_out) == 1 and kept.standing_out[0].repeats == 25 for kept in drawn)
    best, threshold = borderline.results[0].score, borderline.confidence.threshold
    assert threshold is not None
    assert abs(best / threshold - 1) < 0.1
    assert square.query.file_name == SQUARE
    assert square.standing_out == ()


def test_the_shipped_answers_are_small():
    assert sum(path.stat().st_size for path in EMOJI_ANSWERS.rglob("*") if path.is_file()) <= LIMIT


# The command


@pytest.fixture(scope="module")
def attributor(tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    model = StableDiffusion(tiny_pipeline(), ModelSpec("tiny", tunable="attention"))
    source = training_images(write_patches(tmp_path_factory.mktemp("patches"), 12))
    return Attributor(model, build_index(model, source, tmp_path_factory.mktemp("index") / "i", BuildPlan(2, 6, 2)))


def test_answers_are_built_in_order_and_replace_those_of_before(attributor: Attributor, tmp_path: Path):
    out, told = tmp_path / "answers", []
    out.mkdir()
    (out / "stale").touch()
    ids = build_answers(attributor, out, told.append)
    answers = ShippedAnswers.of(out, attributor.index.fingerprint).answers
    assert tuple(result.id for result, _ in answers) == ids
    assert [note for _, note in answers] == [example.note for example in EXAMPLES]
    assert told == [example.prompt or SQUARE for example in EXAMPLES]
    assert not (out / "stale").exists()
    first = answers[0][0]
    assert len(first.csv.splitlines()) == 1 + min(LISTED, len(attributor.index.trained))
    assert first.original == first.picture


def test_a_build_that_fails_leaves_the_answers_of_before(attributor: Attributor, tmp_path: Path):
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "before").touch()

    def full(name: str) -> None:
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        build_answers(attributor, tmp_path / "answers", full)
    assert [path.name for path in tmp_path.rglob("*")] == ["answers", "before"]


# Reading them


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = FolderStore(tmp_path)
    results = [
        store.save(record(match(score=score), query={"sha256": f"{score}" * 64}), "", b"", b"") for score in (1, 2)
    ]
    write_list(tmp_path, [Listed(result.id, "") for result in results])
    return tmp_path


def test_answers_of_another_index_are_not_shown(folder: Path):
    assert len(ShippedAnswers.of(folder, "if").answers) == 2
    assert ShippedAnswers.of(folder, "another").answers == ()
    assert ShippedAnswers.of(folder / "none", "if").answers == ()


def test_damaged_answers_are_refused_by_name(folder: Path):
    (folder / LIST).write_text("[]\n")
    with pytest.raises(DamagedAsset, match=r"answers\.json"):
        ShippedAnswers.of(folder, "if")


@pytest.mark.parametrize("wrong", ["", "null", "{}", "[1]", '[{"id": "0"}]'])
def test_a_list_that_cannot_be_read_is_refused(folder: Path, wrong: str):
    (folder / LIST).write_text(wrong)
    write_manifest(folder)
    with pytest.raises((DamagedAsset, MissingAsset)):
        ShippedAnswers.of(folder, "if")


def test_a_list_may_not_lead_out_of_its_folder(folder: Path):
    (folder / LIST).write_text(json.dumps([{"id": "../" + "0" * 16, "note": ""}]))
    write_manifest(folder)
    with pytest.raises(MissingAsset):
        ShippedAnswers.of(folder, "if")


def test_a_link_finds_shipped_answers_and_kept_ones(folder: Path, tmp_path: Path):
    shipped = ShippedAnswers.of(folder, "if")
    store = WithShipped(FolderStore(tmp_path / "kept"), shipped)
    kept = store.save(record(match(score=3), query={"sha256": "3" * 64}), "", b"", b"")
    assert store.load(kept.id).record.results[0].score == 3
    first: Result = shipped.answers[0][0]
    assert store.load(first.id) is first
    with pytest.raises(MissingAsset):
        store.load("0" * 16)
