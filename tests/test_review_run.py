"""A case from the command line: pictures in, answers by a tiny model, decisions, and what is shown of them."""

from __future__ import annotations

import errno
import json
import os
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from typer.testing import CliRunner

from conftest import Counted
from forwardinf.cli.main import app
from forwardinf.errors import DamagedAsset, InvalidRequest, StorageFailed
from forwardinf.records.record import Record
from forwardinf.records.store import FolderStore
from forwardinf.review import again
from forwardinf.review import run as case_run
from forwardinf.review.run import TOP

from made_cases import png  # isort: skip


KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.fixture
def forwardinf(tmp_path: Path, tiny_checkpoint: Path, patches_index: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command; what it printed, whether it ended well or not."""
    for name, value in {"results": tmp_path / "results", "model": tiny_checkpoint, "index": patches_index}.items():
        monkeypatch.setenv(f"FORWARDINF_{name.upper()}", str(value))

    def command(*words: object, fails: type[Exception] | None = None) -> str:
        done = CliRunner().invoke(app, [str(word) for word in words])
        if fails:
            assert isinstance(done.exception, fails), done.output
            return str(done.exception)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    return command


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.png").write_bytes(png(number))
    return folder


def test_a_case_from_its_pictures_to_a_decision(forwardinf, pictures: Path, counted: Counted):
    assert "2 pictures added" in forwardinf("case", "add", "Ada", pictures, "--prompt", "patch 1")
    assert "not answered yet | undecided" in forwardinf("case", "show", "Ada")
    assert "“Ada”: 2 of 2 pictures answered" in forwardinf("case", "run", "Ada")
    after_first_run = counted.latents
    assert "2 of 2 pictures answered" in forwardinf("case", "run", "Ada")
    assert counted.latents == after_first_run > 0
    shown = json.loads(forwardinf("case", "show", "Ada", "--json"))
    assert [line["picture"]["prompt"] for line in shown] == ["patch 1", "patch 1"]
    best = shown[0]["best"]
    signed = ("--author", "Ada", "--reason", "same colours")
    assert "decision 1 of “Ada”" in forwardinf("case", "decide", "Ada", "1", "infringes", "--match", best, *signed)
    assert f"Ada: infringes ({best})" in forwardinf("case", "show", "Ada")
    forwardinf("case", "decide", "Ada", "1", "unsure", *signed)
    assert json.loads(forwardinf("case", "show", "Ada", "--after", "0", "--json"))[0]["picture"]["number"] == 2
    forwardinf("case", "withdraw", "Ada", "1", "--author", "Ada", "--reason", "wrong match")
    assert [one["verdict"] for one in json.loads(forwardinf("case", "log", "Ada", "--json"))] == [
        *("infringes", "unsure", "withdrawn"),
    ]
    assert "withdraws 1" in forwardinf("case", "show", "Ada", "--picture", "0.png")
    assert "Ada: 2 pictures, 2 answered, 3 decisions" in forwardinf("case", "list")
    forwardinf("case", "decide", "Ada", "1", "infringes", "--author", "Ada", "--reason", "same")
    forwardinf("case", "decide", "Ada", "1", "licensed", "--author", "Bo", "--reason", "own work")
    told = forwardinf("case", "agreement", "Ada")
    assert "of these disputed: 1; Krippendorff’s α: 0.00" in told
    assert "Contradiction on the very same" in told


def test_a_run_that_was_cut_off_goes_on(forwardinf, pictures: Path, monkeypatch: pytest.MonkeyPatch):
    forwardinf("case", "add", "Ada", pictures)
    keep, kept = case_run.keep_answer, []

    def cut_off(database: object, picture: object, result: object, phashes: object) -> None:
        keep(database, picture, result, phashes)
        kept.append(picture.number)
        if kept == [1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(case_run, "keep_answer", cut_off)
    forwardinf("case", "run", "Ada", fails=SystemExit)
    assert json.loads(forwardinf("case", "list", "--json"))[0]["answered"] == 1
    assert "“Ada”: 2 of 2 pictures answered" in forwardinf("case", "run", "Ada")
    assert kept == [1, 2]


def test_an_answer_that_is_gone_is_given_again(forwardinf, pictures: Path, tmp_path: Path):
    forwardinf("case", "add", "Ada", pictures / "0.png")
    forwardinf("case", "run", "Ada")
    (kept,) = [path for path in (tmp_path / "results").iterdir() if path.is_dir()]
    (kept / "record.json").write_text("{}")
    forwardinf("case", "run", "Ada")
    assert len(FolderStore(tmp_path / "results").load(kept.name).record.results) <= TOP


def test_an_answer_that_cannot_be_kept_stops_the_run(forwardinf, pictures: Path, tmp_path: Path):
    forwardinf("case", "add", "Ada", pictures / "0.png")
    (tmp_path / "results").write_text("in the way")
    assert "could not be kept" in forwardinf("case", "run", "Ada", fails=StorageFailed)
    assert "0 answered" in forwardinf("case", "list")


def test_a_picture_that_cannot_be_answered_is_named(forwardinf, pictures: Path, monkeypatch: pytest.MonkeyPatch):
    forwardinf("case", "add", "Ada", pictures)
    answer_of = case_run.answer_of

    def refuse_first(attributor: object, query: object, *rest: object) -> object:
        if query.picture.getpixel((0, 0)) == first:
            raise InvalidRequest("no finite score")
        return answer_of(attributor, query, *rest)

    from forwardinf.examples.decoding import read_picture

    first = (1, 2, 3)
    monkeypatch.setattr(case_run, "read_picture", lambda data, name: marked(read_picture(data, name=name), name, first))
    monkeypatch.setattr(case_run, "answer_of", refuse_first)
    assert "1 of the pictures could not be answered" in forwardinf("case", "run", "Ada", fails=InvalidRequest)
    monkeypatch.undo()


def marked(picture: object, name: str, colour: tuple[int, int, int]) -> object:
    if name == "0.png":
        picture.rgb.putpixel((0, 0), colour)
    return picture


def test_broken_pictures_are_named_and_end_badly_only_where_nothing_is_left(forwardinf, pictures: Path):
    (pictures / "b.png").write_bytes(b"nothing")
    output = forwardinf("case", "add", "Ada", pictures)
    assert "“b.png”" in output
    assert "2 pictures added" in output
    forwardinf("case", "add", "Bo", pictures / "b.png", fails=SystemExit)
    assert "Bo" not in forwardinf("case", "list")
    assert "cannot be named" in forwardinf("case", "add", "a/b", pictures, fails=InvalidRequest)


# Proof


def test_a_pack_from_the_command_line_is_verified_run_again_and_refused_once_changed(
    forwardinf, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "key.pem").write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(public)
    monkeypatch.setenv("FORWARDINF_SIGNING_KEY", str(tmp_path / "key.pem"))
    forwardinf("case", "add", "Ada", pictures, "--prompt", "patch 1")
    forwardinf("case", "run", "Ada")
    pack = tmp_path / "pack.zip"
    assert "2 pictures, 0 decisions" in forwardinf("case", "pack", "Ada", "-o", pack)
    with zipfile.ZipFile(pack) as archive:
        assert [name for name in archive.namelist() if name.startswith("thumbnails/")]
    told = forwardinf("verify", pack, "--key", tmp_path / "public.pem", "--again")
    assert "2 answers run again, and the same" in told
    model_run = again.record_of
    monkeypatch.setattr(again, "record_of", lambda *given: changed(model_run(*given)))
    refused = forwardinf("verify", pack, "--again", fails=DamagedAsset)
    assert "picture 1: the score of" in refused
    pack.write_bytes(pack.read_bytes().replace(b"patch 1", b"patch 2", 1))
    assert "is not as it was" in forwardinf("verify", pack, fails=DamagedAsset)


def changed(record: Record) -> Record:
    first, *others = record.results
    return record.model_copy(update={"results": (first.model_copy(update={"score": first.score + 0.1}), *others)})


def test_reports_and_rows_are_written_as_their_names_end(forwardinf, pictures: Path, tmp_path: Path):
    forwardinf("case", "add", "Ada", pictures / "0.png")
    for name, begins in {"a.html": b"<!doctype html>", "a.pdf": b"%PDF"}.items():
        forwardinf("case", "report", "Ada", "-o", tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(begins)
    forwardinf("case", "export", "Ada", "-o", tmp_path / "a.json")
    assert [row["file_name"] for row in json.loads((tmp_path / "a.json").read_bytes())] == ["0.png"]
    assert "must end in .csv or .json" in forwardinf("case", "export", "Ada", "-o", "a.txt", fails=InvalidRequest)
    assert "does not exist" in forwardinf("case", "pack", "Ada", "-o", tmp_path / "no" / "a.zip", fails=InvalidRequest)


def test_a_pack_on_a_full_disk_leaves_what_was_there(
    forwardinf, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    forwardinf("case", "add", "Ada", pictures / "0.png")
    pack = tmp_path / "pack.zip"
    pack.write_bytes(b"an earlier one")

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        told = forwardinf("case", "pack", "Ada", "-o", pack, fails=StorageFailed)
    assert told.startswith("“pack.zip” cannot be written: No space left on device")
    assert pack.read_bytes() == b"an earlier one"
