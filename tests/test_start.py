"""Starting the app where something is missing: a home, a way past a proxy, a free port, a folder to write to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import pytest

import app
from chromium import ROOT, environment, free_port, running_app
from forwardinf.cli.main import serve
from forwardinf.config import Settings, load_settings
from forwardinf.errors import InvalidSettings
from forwardinf.files import atomic, manifest
from forwardinf.web import folders, server

# As for a user id that the machine does not know, without HOME.
NO_HOME = """
import os, pwd, sys
os.environ.pop("HOME", None)
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
from forwardinf.cli.main import main
main()
"""
PROXY = "http://127.0.0.1:9"  # nothing answers there
PROXIES = {f"{scheme}_proxy": PROXY for scheme in ("http", "https", "all")}


def without_home(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", NO_HOME, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", [["--help"], ["serve", "--help"], ["index", "--help"]])
def test_help_is_shown_to_a_user_without_a_home(command: list[str]):
    ended = without_home(*command)
    assert ended.returncode == 0, ended.stderr
    assert "Usage" in ended.stdout


def test_the_app_starts_behind_a_proxy_with_a_home_that_cannot_be_written_to(
    patches_index: Path, tiny_checkpoint: Path, tmp_path: Path
):
    variables = {**PROXIES, "HOME": "/dev/null/nobody", "TMPDIR": str(tmp_path)}
    log = tmp_path / "log.txt"
    with running_app(log, variables, index=str(patches_index), model=str(tiny_checkpoint)) as url:
        with urllib.request.urlopen(f"{url}/method") as answer:
            assert answer.status == 200
        (folder,) = tmp_path.glob("forwardinf-*")
    assert not folder.exists()  # the folder of drawn and uploaded pictures ends with the app
    assert "Results are kept only until the app ends" in log.read_text()
    assert "Traceback" not in log.read_text()


# Results


def test_results_are_kept_below_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = folders.results_folder(None, tmp_path / "temporary")
    assert kept == tmp_path / ".local/share/forwardinf/results"
    assert kept.is_dir()


def test_without_a_home_results_are_kept_until_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert folders.results_folder(None, tmp_path) == tmp_path / "results"
    assert "FORWARDINF_RESULTS" in caplog.text


def test_a_chosen_results_folder_is_tried_at_the_start(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSettings, match="“results”, the results folder"):
        folders.results_folder(tmp_path / "file" / "results", tmp_path)


# Temporary files


def test_temporary_files_end_with_the_app(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    with folders.temporary_folder() as folder:
        assert Path(os.environ["GRADIO_TEMP_DIR"]).parent == folder
        (folder / "drawn.png").touch()
    assert not folder.exists()
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_what_a_killed_app_left_is_removed_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, another = (tmp_path / f"{folders.PREFIX}{name}" for name in ("left", "linked"))
    left.mkdir()
    (left / "upload.png").touch()
    (tmp_path / "kept").mkdir()
    another.symlink_to(tmp_path / "kept")
    with folders.temporary_folder() as running:
        assert not left.exists()
        assert running.stat().st_mode & 0o777 == 0o700
        atomic.clear_leftovers(tmp_path, folders.PREFIX)  # as another app does when it starts
        assert running.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forwardinf-app-linked", "kept"]


def test_a_folder_for_uploads_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file" / "uploads"))
    with pytest.raises(InvalidSettings, match="GRADIO_TEMP_DIR"), folders.temporary_folder():
        pass


def test_a_machine_without_room_for_temporary_files_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(InvalidSettings, match="TMPDIR"), folders.temporary_folder():
        pass


# The address


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InvalidSettings, match=f"Port {port} is in use"):
            server.listening_on("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1", "127.0.0.1x"])
def test_an_address_of_another_machine_is_named(host: str):
    with pytest.raises(InvalidSettings, match=host):
        server.listening_on(host, 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7860/"),
        ("0.0.0.0", "http://localhost:7860/"),
        ("::1", "http://[::1]:7860/"),
        ("[::1]", "http://[::1]:7860/"),
        ("::", "http://localhost:7860/"),
    ],
)
def test_the_address_to_open_is_one_of_this_machine(host: str, url: str):
    assert server.url_of(host, 7860) == url


def test_serve_takes_every_setting_as_a_flag():
    assert set(signature(serve).parameters) == set(Settings.model_fields)


# Refusals


def test_a_refusal_ends_the_process_with_a_message():
    with socket.create_server(("127.0.0.1", 0)) as other:
        variables = environment(port=str(other.getsockname()[1]))
        command = [sys.executable, "app.py"]
        ended = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 2
    assert "is in use. Choose another with --port or FORWARDINF_PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the app, started in this process with these settings, says before it ends."""

    def start(**settings: str) -> str:
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        for name, value in {"port": str(free_port()), **settings}.items():
            monkeypatch.setenv(f"FORWARDINF_{name.upper()}", value)
        assert app.main() == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said

    return start


def test_a_missing_model_is_named(refused: Callable[..., str], tmp_path: Path):
    assert f"“{tmp_path.name}” has no model_index.json" in refused(model=str(tmp_path))


def test_a_damaged_file_of_a_model_is_named(refused: Callable[..., str], tmp_path: Path):
    model = tmp_path / "model"
    shutil.copytree(load_settings().model, model)
    manifest.write_manifest(model)
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    named = "“model/unet/diffusion_pytorch_model.safetensors” differs from what its manifest records"
    assert named in refused(model=str(model))


def test_a_missing_index_is_named(refused: Callable[..., str], tmp_path: Path):
    assert f"“{tmp_path.name}” is not an index" in refused(index=str(tmp_path))
    assert "is not an index" in refused(index=str(tmp_path / "none"))


def test_an_index_of_another_model_is_named(refused: Callable[..., str], patches_index: Path, tmp_path: Path):
    other = tmp_path / "index"
    shutil.copytree(patches_index, other)
    info = json.loads((other / "index.json").read_text())
    (other / "index.json").write_text(json.dumps({**info, "fingerprint": "0" * 64}))
    assert "index.json” differs from what its manifest records" in refused(index=str(other))
