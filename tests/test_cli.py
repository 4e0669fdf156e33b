from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from forwardinf.cli.main import main
from forwardinf.studies.journal import Journal


@dataclass(frozen=True)
class Finished:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Finished]


@pytest.fixture
def forwardinf(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line as the console script runs it, in this process."""

    def run(*arguments: str) -> Finished:
        monkeypatch.setattr(sys, "argv", ["forwardinf", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Finished(code, *capsys.readouterr())

    return run


def test_generate_writes_the_same_picture_for_the_same_seed(forwardinf: Run, tiny_checkpoint: Path, tmp_path: Path):
    for name in ("a.png", "b.png"):
        done = forwardinf("generate", "red apple", "--seed", "7", "--steps", "2", "-o", str(tmp_path / name),
                          "--model", str(tiny_checkpoint))  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "seed 7" in done.stdout
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(tmp_path / "a.png").size == (16, 16)


def test_a_refused_request_is_one_line_and_writes_nothing(forwardinf: Run, tiny_checkpoint: Path, tmp_path: Path):
    out = tmp_path / "a.png"
    for arguments, named in [
        (["", "-o", str(out)], "prompt is empty"),
        (["apple", "-o", str(out), "--steps", "0"], "number of steps"),
        (["apple", "-o", str(out), "--seed", "-1"], "seed"),
        (["apple", "-o", str(tmp_path / "a.txt")], "a.txt"),
        (["apple", "-o", str(tmp_path / "no" / "a.png")], "does not exist"),
        (["apple", "-o", str(out), "--model", str(tmp_path)], "model_index.json"),
    ]:
        done = forwardinf("generate", *arguments)
        assert done.returncode == 2
        assert named in done.stderr
        assert "Traceback" not in done.stderr
        assert not out.exists()


@pytest.mark.parametrize("command", [["generate", "apple"], ["study", "lds"], ["study", "customisation"]])
def test_a_device_that_is_not_there_is_named_with_those_that_are(
    forwardinf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
):
    where = {"study": ["--work", str(tmp_path)], "generate": ["-o", str(tmp_path / "a.png")]}[command[0]]
    where += ["--journal", str(tmp_path)] if "customisation" in command else []
    asked = forwardinf(*command, *where, "--device", "gpu")
    monkeypatch.setenv("FORWARDINF_DEVICE", "cuda:99")
    set_once = forwardinf(*command, *where)
    for done, device in ((asked, "gpu"), (set_once, "cuda:99")):
        assert done.returncode == 2
        assert f"“{device}” cannot be used on this machine, which has: cpu" in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_answers_without_loading_torch():
    code = (
        "import sys; from forwardinf.cli.main import main; sys.argv[1:] = ['--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}assert 'torch' not in sys.modules"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for command in ("generate", "attribute", "index", "study", "serve", "artwork", "train", "model"):
        assert command in done.stdout


def test_the_index_is_a_setting(
    forwardinf: Run, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    monkeypatch.setenv("FORWARDINF_INDEX", str(tmp_path / "not-there"))
    refused = forwardinf("attribute", str(tmp_path / "red.png"), "--model", str(tiny_checkpoint))
    assert refused.returncode == 2
    assert "“not-there” is not an index" in refused.stderr


def test_an_image_folder_is_indexed_verified_and_attributed(forwardinf: Run, tiny_checkpoint: Path, tmp_path: Path):
    images, index = tmp_path / "images", tmp_path / "index"
    images.mkdir()
    rows = []
    for i, colour in enumerate(["red", "green", "blue", "white", "orange"]):
        Image.new("RGB", (20, 20), colour).save(images / f"{i}.png")
        split = {"split": "held_out"} if colour == "orange" else {}
        rows.append(json.dumps({"file_name": f"{i}.png", "text": f"{colour} square", "creator": "Ada"} | split))
    rows[0] = json.dumps({"file_name": "0.png", "text": "red square " * 30, "creator": "Ada"})
    rows.append('{"file_name": "gone.png", "text": "gone"}')
    (images / "metadata.jsonl").write_text("\n".join(rows))
    model = ["--model", str(tiny_checkpoint)]

    build = ["index", "build", str(images), "--out", str(index), "--draws", "2", "--embedder", "vae", "--tunable",
             "attention", "--kronecker", *model]  # fmt: skip
    planned = forwardinf(*build, "--dry-run")
    stages = ["stage", "images", "Fisher", "Kronecker factors", "sketches", "null pictures", "all"]
    assert [line.split("  ")[0] for line in planned.stdout.splitlines()[:7]] == stages
    assert "5 images, on this machine alone" in planned.stdout
    assert not index.exists()
    built = forwardinf(*build)
    assert built.returncode == 0, built.stderr
    assert "images: 5 of 5 in " in built.stderr
    assert "1 of 5 captions are longer than the model reads" in built.stderr
    assert "null pictures: 2 of 2 in " in built.stderr
    info = json.loads(forwardinf("index", "info", str(index)).stdout)
    assert (info["examples"], info["skipped"], info["embedder"], info["tunable"]) == (5, 1, "vae", "attention")
    assert "skipped line 6: “gone.png” is not there." in built.stderr
    assert "5 images (1 skipped) by crop, 2 draws each, 1 null pictures" in built.stdout
    assert "every file as recorded" in forwardinf("index", "verify", str(index)).stdout

    asked = ["attribute", str(images / "2.png"), "--index", str(index), "--prompt", "blue square", *model]
    record = json.loads(forwardinf(*asked, "--top", "2", "--json").stdout)
    assert [row["rank"] for row in record["results"]] == [1, 2]
    assert {row["creator"] for row in record["results"]} == {"Ada"}
    assert record["confidence"]["null_pictures"] == 1
    assert all(0.5 <= row["p_value"] <= 1 for row in record["results"])  # one reference can show no more
    assert [(group["name"], group["images"]) for group in record["groups"]["creator"]] == [("Ada", 4)]
    plain = forwardinf(*asked)
    assert "The index holds the scores of 1 picture that the model never saw, and a verdict takes" in plain.stdout
    assert record["verdict"] == " ".join(plain.stdout.splitlines()[:2])
    assert (record["confidence"]["stand_out"], record["results"][0]["stands_out"]) == (None, None)
    assert "no null distribution for these settings" in forwardinf(*asked, "--steps", "2").stdout
    assert "neither copying nor infringement" in plain.stdout
    assert "img" not in plain.stderr  # no progress bar where nobody watches

    table = tmp_path / "all.csv"
    chosen = ["--steps", "2", "--method", "forward_inf", "--csv", str(table), "--json"]
    by = json.loads(forwardinf(*asked, *chosen, "--setting", "curvature=kronecker").stdout)["method"]["settings"]
    assert (by["steps"], by["curvature"]) == (2, "kronecker")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert {(row["prompt"], row["verdict"]) for row in rows} == {("blue square", plain.stdout.splitlines()[0])}
    for wrong, named in [
        (["--method", "guess"], "forward_inf"),
        (["--tunable", "["], "regular expression"),
        (["--csv", str(tmp_path / "no" / "all.csv")], "does not exist"),
    ]:
        refused = forwardinf(*asked, *wrong)
        assert (refused.returncode, named in refused.stderr) == (2, True)

    study = ["study", "self-retrieval", "--index", str(index), "--queries", "2", "--variants", "clean,jpeg", *model]
    study += ["--work", str(tmp_path / "work"), "--journal", str(tmp_path), "--out", str(tmp_path / "study.json")]
    assert "all 4 indexed training images" in forwardinf(*study).stdout
    journal = Journal(tmp_path / "self_retrieval.jsonl")
    assert len(list(journal.trials())) == 4
    written = journal.path.read_bytes()
    again = forwardinf(*study, "--json")
    assert json.loads(again.stdout) == json.loads((tmp_path / "study.json").read_text())
    assert journal.path.read_bytes() == written
    assert forwardinf(*study, "--variants", "blurred").returncode == 2

    rival = ["--method", "trak", "--setting", "dimensions=32", "--setting", "query_draws=2"]
    ranked = json.loads(forwardinf(*asked, *rival, "--seed", "1", "--cache", str(tmp_path / "kept"), "--json").stdout)
    assert ranked["method"]["settings"]["dimensions"] == 32
    assert ranked["mirrored"] is ranked["results"][0]["standard_error"] is None
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert "neither copying" in forwardinf(*asked, "--method", "random").stdout
    study += ["--queries", "1", "--variants", "clean"]
    report = json.loads(forwardinf(*study, *rival, "--json").stdout)
    assert report["settings"]["method"]["query_draws"] == 2
    assert len(list((tmp_path / "work" / "cache").iterdir())) == 1
    for wrong, named in [("dimensions", "name=value"), ("steps=2", "no setting “steps”"), ("damping=-1", "damping")]:
        refused = forwardinf(*asked, "--method", "trak", "--setting", wrong)
        assert (refused.returncode, named in refused.stderr) == (2, True)

    assert record["model"]["tunable"] == "attention"
    assert "--tunable “all”" in forwardinf(*asked, "--tunable", "all").stderr
    assert "“unet” or “vae”" in forwardinf("index", "build", str(images), "--out", str(tmp_path / "other"),
                                           "--embedder", "clap", *model).stderr  # fmt: skip
    assert "is not an index" in forwardinf("index", "info", str(images)).stderr

    (images / "fake.png").write_text("just text")
    refused = forwardinf("attribute", str(images / "fake.png"), "--index", str(index), *model)
    assert refused.returncode == 2
    assert "fake.png" in refused.stderr
    shard = index / "shards" / "00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8] + bytes(8))
    damaged = forwardinf("index", "verify", str(index))
    assert damaged.returncode == 2
    assert "shards/00000.safetensors" in damaged.stderr
