"""Leaving a method's first images out of the lab's training: which ones, how often it is trained, and what is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ASSETS
from forwardinf.attribution.attributor import Attributor
from forwardinf.cli.main import main
from forwardinf.errors import InvalidRequest
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.decoding import to_square
from forwardinf.index.null_file import NullChanges
from forwardinf.methods.protocol import AttributionMethod
from forwardinf.methods.registry import load_method
from forwardinf.models.generation import GenerationRequest
from forwardinf.models.sd import StableDiffusion, load
from forwardinf.studies import leave_k_out as room
from forwardinf.studies import retraining
from forwardinf.studies.ground_truth import GroundTruth, LabPlan, LabQuery, make, read_weights
from forwardinf.studies.journal import Journal
from forwardinf.studies.lab_scores import attributor_of
from forwardinf.studies.lds import Lds
from forwardinf.studies.leave_k_out import LeaveKOut
from forwardinf.studies.retraining import Outcome, Removal, Retraining
from forwardinf.training.lab import Recipe, load_lab
from forwardinf.types import ModelSpec

SHIPPED = ASSETS / "emoji-diffusion"
MEMORISING = Recipe(
    channels=(16, 16, 16), heads=(1, 1, 1), start_total=640, start_learning_rate=1e-3, passes=60, learning_rate=1e-3
)
METHODS = {name: load_method(name) for name in ("similarity", "random")}
STUDY = LeaveKOut(queries=2, k=1, part="all")


@dataclass(frozen=True)
class Finished:
    attributor: Attributor
    removals: dict[str, list[Removal]]
    outcomes: dict[str, list[Outcome]]


@pytest.fixture(scope="module")
def artwork() -> Catalog:
    whole = Catalog.load(ASSETS / "emoji")
    some = [*whole.of_split("train").images[::97][:6], *whole.of_split("reserve").images[::97][:12]]
    return Catalog(whole.folder, tuple(sorted(some, key=lambda image: image.id)))


@pytest.fixture(scope="module")
def plan(artwork: Catalog) -> LabPlan:
    """Three queries: two pretend that the lab generated a training image, the third it did; and one held-out one."""
    images = artwork.of_split("train").images
    drawn = [LabQuery(f"drawn-{number:03}", images[number].caption, seed=number) for number in range(3)]
    held_out = LabQuery(images[3].id, images[3].caption, None)
    return LabPlan(MEMORISING, tuple(i.id for i in images), (*drawn, held_out), subsets=2, noise_seeds=2, draws=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("leave_k_out")


@pytest.fixture(scope="module")
def truth(artwork: Catalog, plan: LabPlan, folder: Path) -> GroundTruth:
    (folder / "lab" / "queries").mkdir(parents=True)
    for number in range(2):
        with Image.open(artwork.path_of(artwork.by_id[plan.images[number]])) as file:
            to_square(file.convert("RGB"), 64).save(folder / "lab" / "queries" / f"{number:03}.png")
    make(folder / "lab", artwork, SHIPPED, plan, folder / "work" / "start", until=0)
    return GroundTruth.open(folder / "lab", Catalog.load(ASSETS / "emoji"), SHIPPED)


@pytest.fixture(scope="module")
def finished(truth: GroundTruth, folder: Path) -> Finished:
    """The study on two queries, its journal in the lab's folder."""
    work = folder / "work" / "lab"
    attributor = attributor_of(truth, ModelSpec.tunable, work, METHODS["similarity"], draws=2)
    removals = {n: room.removals_of(STUDY, truth, attributor, method, work) for n, method in METHODS.items()}
    return Finished(attributor, removals, room.run(STUDY, truth, removals, Journal(truth.folder / room.JOURNAL)))


@pytest.fixture(scope="module")
def shipped() -> StableDiffusion:
    return load(ModelSpec(str(SHIPPED)))


@pytest.fixture
def trained(shipped: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The images of every training, none of which takes a step: an outcome says which rows were trained on."""
    images: list[list[str]] = []

    def train_on(recipe, model, start, of_lab, rows, seed):
        images.append([of_lab.ids[row] for row in rows])
        return {"rows": torch.tensor(rows)}

    def measured(_self: Retraining, weights: dict[str, torch.Tensor], number: int) -> Outcome:
        return Outcome(float((2 ** weights["rows"]).sum()), float(number), 0.0)

    monkeypatch.setattr(retraining, "train_on", train_on)
    monkeypatch.setattr(retraining, "load", lambda spec: shipped)
    monkeypatch.setattr(retraining, "load_lab", lambda recipe, model, weights: weights)
    monkeypatch.setattr(Retraining, "_measured", measured)
    return images


def removal(truth: GroundTruth, query: int, *columns: int) -> Removal:
    return Removal(query, frozenset(truth.plan.images[column] for column in columns))


def test_leaving_out_a_memorised_image_raises_its_loss_more_than_leaving_out_a_random_one(
    truth: GroundTruth, finished: Finished
):
    own = [removal(truth, 0, 0), removal(truth, 1, 1)]
    assert finished.removals["similarity"] == own
    assert set(own).isdisjoint(finished.removals["random"])
    rises = {name: np.array([outcome.loss for outcome in row]) for name, row in finished.outcomes.items()}
    assert (rises["similarity"] > 1.2 * rises["random"]).all()
    assert (rises["similarity"] > 5 * np.abs(rises["nothing"])).all()


def test_the_images_left_out_are_the_first_k_of_each_querys_scores(
    truth: GroundTruth, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    scores = np.array([[0, 5, -1, 4, 4, 3], [9, 9, 0, 9, 1, 2]], dtype=np.float32)
    monkeypatch.setattr(room, "scores_of", lambda numbers, *_: scores[numbers])
    chosen = [room.removals_of(LeaveKOut(2, k, "all"), truth, None, None, tmp_path) for k in (2, 5)]
    assert chosen[0] == [removal(truth, 0, 1, 3), removal(truth, 1, 0, 1)]
    assert chosen[1] == [removal(truth, 0, 0, 1, 3, 4, 5), removal(truth, 1, 0, 1, 3, 4, 5)]


def test_the_rest_is_trained_on_once_for_each_set_left_out(
    truth: GroundTruth, trained: list[list[str]], tmp_path: Path
):
    images, journal = truth.plan.images, Journal(tmp_path / "journal.jsonl")
    one = {"a": [removal(truth, 0, 2, 4), removal(truth, 1, 5, 3)]}
    other = {"b": [removal(truth, 0, 4, 2), removal(truth, 1, 4, 2)]}
    both = room.run(STUDY, truth, one | other, journal)
    assert trained == [list(images), [images[i] for i in (0, 1, 3, 5)], [images[i] for i in (0, 1, 2, 4)]]
    assert len(list(journal.trials())) == 5  # of sets and queries
    assert both["nothing"] == [Outcome(63, 0, 0), Outcome(63, 1, 0)]
    assert both["a"] == [Outcome(1 + 2 + 8 + 32, 0, 0), Outcome(1 + 2 + 4 + 16, 1, 0)]
    assert both["b"] == [Outcome(1 + 2 + 8 + 32, 0, 0), Outcome(1 + 2 + 8 + 32, 1, 0)]
    again = room.run(STUDY, truth, {"c": other["b"]}, journal)
    assert again == {"nothing": both["nothing"], "c": both["b"]}
    assert len(trained) == 3


def test_a_study_that_was_cut_off_goes_on_and_trains_nothing_twice(
    truth: GroundTruth, trained: list[list[str]], tmp_path: Path
):
    removals = {"a": [removal(truth, 0, 2), removal(truth, 1, 3)]}
    whole = room.run(STUDY, truth, removals, Journal(tmp_path / "whole.jsonl"))
    trained.clear()

    def cut_off(done: int, total: int) -> None:
        assert total == 3
        if done == 2:
            raise KeyboardInterrupt

    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(KeyboardInterrupt):
        room.run(STUDY, truth, removals, journal, cut_off)
    assert len(trained) == 2
    assert room.run(STUDY, truth, removals, journal) == whole
    assert len(trained) == 3


def test_finished_trainings_are_taken_from_the_journal_and_a_torn_one_comes_out_the_same(
    truth: GroundTruth, finished: Finished, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    whole, torn = Journal(truth.folder / room.JOURNAL), Journal(tmp_path / "torn.jsonl")
    torn.path.write_bytes(whole.path.read_bytes()[:-40])
    assert room.run(STUDY, truth, finished.removals, torn) == finished.outcomes
    assert len(list(torn.trials())) == len(list(whole.trials()))
    monkeypatch.setattr(retraining, "train_on", lambda *_: pytest.fail("trained again"))
    assert room.run(STUDY, truth, finished.removals, torn) == finished.outcomes


def test_what_was_found_of_another_lab_is_not_taken(truth: GroundTruth, trained: list[list[str]], tmp_path: Path):
    asked, journal = removal(truth, 0, 2), Journal(tmp_path / "journal.jsonl")
    found = Retraining(truth, journal).outcomes([asked])
    (line,) = journal.trials()
    of_lab = ["start", "full", "recipe", "trained_on", "shipped", "seed"]
    others = [{"settings": line["settings"] | {changed: "another"}} for changed in of_lab]
    for number, changed in enumerate([*others, {"query": "another"}, {"without": "another"}]):
        other = Journal(tmp_path / f"{number}.jsonl")
        other.append(line | changed | {"loss": -1.0})
        assert Retraining(truth, other).outcomes([asked]) == found
        assert len(trained) == number + 2


def test_the_full_models_own_weights_change_nothing_and_others_are_measured(
    truth: GroundTruth, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    weights = {name: read_weights(truth.folder, name) for name in ("start", "full")}
    monkeypatch.setattr(retraining, "train_on", lambda *_: weights["full"])
    asked = removal(truth, 2, 0)
    (same,) = Retraining(truth, Journal(tmp_path / "full.jsonl")).outcomes([asked]).values()
    assert (same.loss, same.pixels) == (0, 0)
    assert same.features == pytest.approx(0, abs=1e-6)

    monkeypatch.setattr(retraining, "train_on", lambda *_: weights["start"])
    (other,) = Retraining(truth, Journal(tmp_path / "start.jsonl")).outcomes([asked]).values()
    query = truth.plan.queries[2]
    drawn = load_lab(truth.plan.recipe, SHIPPED, weights["start"]).generate(GenerationRequest(query.caption, seed=2))
    pixels = [np.asarray(picture, dtype=float) / 255 for picture in (drawn, truth.picture(2))]
    assert other.pixels == pytest.approx(np.mean((pixels[0] - pixels[1]) ** 2))
    assert other.pixels > 0
    assert 0 < other.features < 1
    assert other.loss > 0


def test_differences_to_random_are_those_of_each_query():
    random = [Outcome(1.0, 0.2, 0.0), Outcome(5.0, 0.2, 0.0), Outcome(9.0, 0.2, 0.0)]
    method = [Outcome(2.0, 0.1, 0.3), Outcome(6.0, 0.2, 0.3), Outcome(10.0, 0.6, 0.3)]
    found = room.summary(method, random)
    assert found["loss"]["each"] == [2, 6, 10]
    assert found["loss"]["mean"] == 6
    assert found["loss"]["interval"] == pytest.approx((6 - 4.3027 * 4 / 3**0.5, 6 + 4.3027 * 4 / 3**0.5), abs=1e-3)
    assert found["loss"]["over_random"] == {"mean": 1, "interval": (1, 1)}
    assert found["pixels"]["over_random"]["mean"] == pytest.approx(0.1)
    assert found["features"]["over_random"]["interval"] == pytest.approx((0.3, 0.3))


def test_only_drawn_queries_are_asked_and_one_image_must_stay(truth: GroundTruth):
    assert LeaveKOut(queries=2, k=5, part="all").chosen(truth) == [0, 1]
    assert LeaveKOut(queries=50, k=1, part="choosing").chosen(truth) == [0, 1, 2]
    with pytest.raises(InvalidRequest, match="the part “reported” has none"):
        LeaveKOut(queries=2, k=5).chosen(truth)
    with pytest.raises(InvalidRequest, match="no part “best”; the parts are: choosing"):
        LeaveKOut(part="best")
    for k in (6, 7, 0):
        with pytest.raises(InvalidRequest, match=f"{k} of 6 images cannot be removed.*1 to 5"):
            LeaveKOut(k=k, part="all").chosen(truth)


def test_no_query_that_defaults_were_chosen_by_is_reported():
    shipped = GroundTruth.open(ASSETS / "lab", Catalog.load(ASSETS / "emoji"), SHIPPED)
    choosing = set(Lds(100, "choosing").chosen(shipped))
    left_out = LeaveKOut(queries=20).chosen(shipped)
    assert len(left_out) == 20
    assert not choosing & {*left_out, *Lds(100).chosen(shipped)}


def test_random_images_are_always_among_what_is_compared():
    def labels(*methods: AttributionMethod) -> list[str]:
        return [room.label_of(method) for method in room.with_baseline(methods)]

    retrac = load_method("tracin", normalised=True)
    assert labels(retrac, METHODS["similarity"], load_method("tracin", normalised=True)) == [
        *("tracin:normalised=true", "similarity", "random")
    ]
    assert labels(load_method("random", seed=3), retrac) == ["random:seed=3", "tracin:normalised=true"]


def test_a_journal_in_the_labs_folder_may_grow_after_the_lab_was_gone_on_with(
    truth: GroundTruth, finished: Finished, plan: LabPlan, tmp_path: Path
):
    make(truth.folder, truth.artwork, SHIPPED, plan, tmp_path, until=0)
    journal = Journal(truth.folder / room.JOURNAL)
    journal.append({"settings": {"of": "another study"}})
    assert room.run(STUDY, GroundTruth.open(truth.folder, truth.artwork, SHIPPED), finished.removals, journal) == (
        finished.outcomes
    )


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], truth: GroundTruth, folder: Path):
    def run(*arguments: str) -> tuple[int, str, str]:
        common = ("--lab", str(truth.folder), "--work", str(folder / "work"), "--draws", "2", "--part", "all")
        monkeypatch.setattr(sys, "argv", ["forwardinf", "study", "leave-k-out", *common, *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run


def test_the_command_reports_each_method_against_random(
    command: Callable[..., tuple[int, str, str]],
    truth: GroundTruth,
    finished: Finished,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    monkeypatch.setattr(retraining, "train_on", lambda *_: pytest.fail("trained again"))
    asked = ["--queries", "2", "--k", "1", "--method", "similarity"]
    code, shown, errors = command(*asked, "--json", "-o", str(tmp_path / "report.json"))
    assert code == 0, errors
    report = room.as_report(
        STUDY, truth, [(finished.attributor, method) for method in METHODS.values()], finished.outcomes
    )
    assert json.loads(shown) == json.loads(json.dumps(report)) == json.loads((tmp_path / "report.json").read_text())
    assert report["settings"]["methods"]["similarity"]["method"]["space"] == "embedder"
    assert report["rows"]["nothing"]["loss"]["each"] == [outcome.loss for outcome in finished.outcomes["nothing"]]
    code, shown, _ = command(*asked)
    assert shown.rstrip("\n") == room.as_table(report)
    assert "1 of 6 images removed for each of 2 queries generated by the model." in shown
    mean = 1000 * report["rows"]["similarity"]["loss"]["mean"]
    assert sum(line.startswith("similarity") and f"{mean:.2f} [" in line for line in shown.splitlines()) == 1


def test_a_report_says_by_how_many_reference_pictures_each_method_was_judged(truth: GroundTruth, finished: Finished):
    class Referenced(Attributor):
        def null_changes(self, method: AttributionMethod) -> NullChanges:
            return NullChanges({}, tuple(f"unseen-{n}" for n in range(29)), np.zeros((29, 6, 5)))

    plain = finished.attributor
    asked = [(Referenced(plain.model, plain.index), METHODS["similarity"]), (plain, METHODS["random"])]
    settings = room.as_report(STUDY, truth, asked, finished.outcomes)["settings"]
    assert {name: own["reference_queries"] for name, own in settings["methods"].items()} == {
        "similarity": 29,
        "random": 0,
    }
    assert not {"method", "index", "reference_queries"} & settings.keys()


def test_the_command_refuses_before_it_builds_anything(command: Callable[..., tuple[int, str, str]], tmp_path: Path):
    for wrong, named in [
        (["--k", "6"], "6 of 6 images cannot be removed"),
        (["--method", "guess"], "no method “guess”"),
        (["--method", "similarity:space"], "name=value"),
        (["--method", "tracin:steps=2"], "no setting “steps”"),
    ]:
        code, _, errors = command("--work", str(tmp_path / "work"), *wrong)
        assert (code, named in errors) == (2, True), errors
    assert not (tmp_path / "work").exists()
