"""Indexes are sent to the Hub and to URLs and fetched from there, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import create_autospec

import fsspec
import huggingface_hub
import pytest
from httpx2 import Request, Response
from huggingface_hub import errors
from typer.testing import CliRunner

from forwardinf.cli.main import app
from forwardinf.config import ASSETS
from forwardinf.errors import DamagedAsset, InvalidRequest, MissingAsset, TransferFailed
from forwardinf.index.places import HubPlace, UrlPlace, place_of
from forwardinf.index.sharing import pull, push
from forwardinf.index.store import Index


class Hub:
    """What the Hub's client does, on a folder: signatures are those of the real one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.commits, self.private = folder, 0, None
        self.api = create_autospec(huggingface_hub.HfApi, instance=True)
        self.api.file_exists.side_effect = lambda repo, name, **_: (folder / name).is_file()
        self.api.create_repo.side_effect = self.create_repo
        self.api.create_commit.side_effect = self.create_commit
        self.api.dataset_info.side_effect = lambda repo, **_: type("Info", (), {"sha": "c0ffee"})
        self.api.hf_hub_download.side_effect = self.download

    def create_repo(self, repo: str, private: bool, **_: object) -> None:
        self.private = private

    def create_commit(self, repo: str, operations: list, **_: object) -> None:
        for one in operations:
            (self.folder / one.path_in_repo).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(one.path_or_fileobj, self.folder / one.path_in_repo)
        self.commits += 1

    def download(self, repo: str, name: str, revision: str, local_dir: Path, **_: object) -> str:
        assert revision == "c0ffee"
        if not (self.folder / name).is_file():
            raise errors.RemoteEntryNotFoundError("no", response=response(404))
        to = local_dir / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / name, to)
        return str(to)


def response(status: int) -> Response:
    return Response(status, request=Request("GET", "https://hub"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made.api)
    return made


@pytest.fixture
def index(patches_index: Path) -> Index:
    return Index.open(patches_index)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_an_index_goes_to_a_url_and_back(index: Index, tmp_path: Path, kind: str):
    url = f"memory://{tmp_path.name}/index" if kind == "memory" else (tmp_path / "there").as_uri()
    push(index, place_of(url))
    back = pull(place_of(url), tmp_path / "back")
    assert back.fingerprint == index.fingerprint
    assert {path.name for path in tmp_path.glob("*")} == ({"back"} if kind == "memory" else {"back", "there"})
    assert "README.md" not in {path.name for path in back.folder.iterdir()}
    with pytest.raises(TransferFailed, match="holds an index already"):
        push(index, place_of(url))
    with pytest.raises(InvalidRequest, match="“back” is there already"):
        pull(place_of(url), tmp_path / "back")


def test_an_index_goes_to_the_hub_in_one_commit_and_back(hub: Hub, index: Index, tmp_path: Path):
    push(index, place_of("ada/patches"))
    assert (hub.commits, hub.private) == (1, True)
    card = (hub.folder / "README.md").read_text()
    assert "| CC0-1.0 | 6 |" in card
    assert "forwardinf index pull ada/patches" in card
    assert index.info.fingerprint in card
    back = pull(place_of("hf://datasets/ada/patches", revision="main"), tmp_path / "back")
    assert back.fingerprint == index.fingerprint
    assert {path.name for path in back.folder.iterdir()} == {path.name for path in index.folder.iterdir()}
    with pytest.raises(TransferFailed, match="“ada/patches” holds an index already"):
        push(index, place_of("ada/patches"))


def test_a_transfer_that_fails_leaves_nothing_half(
    hub: Hub, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url = f"memory://{tmp_path.name}/cut"
    sent: list[str] = []
    memory = type(fsspec.filesystem("memory"))
    put = memory.put_file

    def failing(self, file: str, path: str, **how: object) -> None:
        if len(sent) == 5:
            raise PermissionError(13, "Permission denied")
        sent.append(path)
        put(self, file, path, **how)

    monkeypatch.setattr(memory, "put_file", failing)
    with pytest.raises(TransferFailed, match="Permission denied"):
        push(index, place_of(url))
    with pytest.raises(TransferFailed, match="was not sent whole"):
        pull(place_of(url), tmp_path / "back")
    monkeypatch.setattr(memory, "put_file", put)
    push(index, place_of(url))  # goes on
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}/cut/fisher.safetensors")
    with pytest.raises(MissingAsset, match=r"has no fisher\.safetensors"):
        pull(place_of(url), tmp_path / "back")
    push(index, HubPlace("ada/patches"))
    (hub.folder / "catalog.parquet").write_bytes(b"changed")
    with pytest.raises(DamagedAsset, match=r"“back/catalog\.parquet” differs"):
        pull(HubPlace("ada/patches"), tmp_path / "back")
    assert not list(tmp_path.glob("*back*"))
    assert not list(tmp_path.glob(".partial*"))


def test_a_folder_that_is_no_index_is_said_to_be_none(tmp_path: Path):
    with pytest.raises(TransferFailed, match=r"it has no manifest\.json"):
        pull(UrlPlace(f"memory://{tmp_path.name}/nothing"), tmp_path / "back")
    with pytest.raises(TransferFailed, match=r"records no index\.json"):
        pull(UrlPlace((ASSETS / "emoji").as_uri()), tmp_path / "back")


REFUSALS = [
    (errors.HfHubHTTPError("no", response=response(401)), "no credentials. Sign in with `hf auth login`"),
    (errors.LocalTokenNotFoundError("no"), "no credentials"),
    (errors.HfHubHTTPError("no", response=response(403)), "the token may not do that"),
    (errors.RepositoryNotFoundError("no", response=response(401)), "there is no such data set, or it is private"),
    (errors.RevisionNotFoundError("no", response=response(404)), "it has no such revision"),
    (errors.HfHubHTTPError("no", response=response(503)), "it answered 503"),
    (errors.OfflineModeIsEnabled("no"), "HF_HUB_OFFLINE is set"),
    (errors.HFValidationError("“a..b”"), "this is no name of a data set: “a..b”"),
    (ConnectionError("no"), "it cannot be reached"),
]


def test_what_the_hub_refuses_is_told_with_what_to_do(hub: Hub, index: Index):
    for error, told in REFUSALS:
        hub.api.create_repo.side_effect = error
        with pytest.raises(TransferFailed) as refusal:
            push(index, HubPlace("ada/patches"))
        assert str(refusal.value).startswith(f"“ada/patches” on the Hub: {told}")
    assert hub.commits == 0


def test_the_real_client_offline_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(TransferFailed, match="HF_HUB_OFFLINE"):
        pull(HubPlace("ada/patches"), tmp_path / "back")


def test_what_names_no_place_is_refused():
    for written in ("index", "a/b/c", "hf://models/a/b"):
        with pytest.raises(InvalidRequest, match="neither a data set of the Hub"):
            place_of(written)
    with pytest.raises(InvalidRequest, match="nosuch"):
        place_of("nosuch://bucket/index").has("x")
    with pytest.raises(InvalidRequest, match="--revision"):
        place_of("memory://x", revision="main")
    assert place_of("sftp://ada:secret@host/index").name == "sftp://host/index"


def test_the_command_line_pushes_and_pulls(index: Index, tmp_path: Path):
    url = f"memory://{tmp_path.name}/cli"
    for words in (["push", str(index.folder), url], ["pull", url, "--out", str(tmp_path / "back")]):
        done = CliRunner().invoke(app, ["index", *words])
        assert done.exit_code == 0, done.exception
        assert index.fingerprint[:12] in done.stdout
