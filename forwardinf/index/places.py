"""Where an index can be sent to and fetched from: a data set on the Hugging Face Hub, and any URL that fsspec knows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from ..errors import InvalidRequest, TransferFailed

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_HUB = "hf://datasets/"


class Place(Protocol):
    """Files by their names, such as `shards/00000.safetensors`."""

    @property
    def name(self) -> str:
        """What people call it, without secrets."""

    def has(self, name: str) -> bool: ...

    def put(self, files: Mapping[str, Path]) -> None:
        """Send files, in their order; where that fails, the last one is not there."""

    def get(self, name: str, to: Path) -> bool:
        """Fetch a file; False where there is none. What fails raises TransferFailed, in every method."""


def place_of(written: str, revision: str | None = None, public: bool = False) -> Place:
    """A data set `OWNER/NAME` of the Hub, or a URL; raises InvalidRequest for anything else."""
    repository = written.removeprefix(_HUB)
    if _REPOSITORY.fullmatch(repository):
        return HubPlace(repository, revision, public)
    if "://" not in written or written.startswith("hf://"):
        raise InvalidRequest(f"“{written}” is neither a data set of the Hub, OWNER/NAME, nor a URL such as s3://….")
    if revision:
        raise InvalidRequest("Only data sets of the Hub have revisions: leave --revision out.")
    return UrlPlace(written)


@dataclass(frozen=True)
class HubPlace:
    """A data set of the Hub, which takes all files in one commit, so that it has them all or none."""

    repository: str
    revision: str | None = None
    public: bool = False  # when it is made

    @property
    def name(self) -> str:
        return self.repository

    def has(self, name: str) -> bool:
        with self._told():
            return self._api.file_exists(self.repository, name, repo_type="dataset", revision=self.revision)

    def put(self, files: Mapping[str, Path]) -> None:
        from huggingface_hub import CommitOperationAdd

        with self._told():
            self._api.create_repo(self.repository, repo_type="dataset", private=not self.public, exist_ok=True)
            added = [CommitOperationAdd(name, str(file)) for name, file in files.items()]
            self._api.create_commit(self.repository, added, commit_message="An index", repo_type="dataset")

    def get(self, name: str, to: Path) -> bool:
        from huggingface_hub.errors import EntryNotFoundError

        try:
            with self._told():
                found = self._api.hf_hub_download(
                    self.repository, name, repo_type="dataset", revision=self._commit, local_dir=to.parent / ".fetched"
                )
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(found, to)
        except EntryNotFoundError:
            return False
        finally:
            shutil.rmtree(to.parent / ".fetched", ignore_errors=True)
        return True

    @cached_property
    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi()

    @cached_property
    def _commit(self) -> str | None:
        """What a revision stands for when the first file is fetched, so that all files are of one commit."""
        return self._api.dataset_info(self.repository, revision=self.revision).sha

    @contextmanager
    def _told(self) -> Iterator[None]:
        from huggingface_hub import errors

        try:
            yield
        except errors.EntryNotFoundError:
            raise
        except (errors.HfHubHTTPError, errors.LocalTokenNotFoundError, errors.HFValidationError, OSError) as error:
            raise TransferFailed(f"“{self.repository}” on the Hub: {_why(error)}") from error


def _why(error: Exception) -> str:
    """What went wrong with the Hub, and what to try."""
    from huggingface_hub import errors

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so it was not asked. Unset it for this command."
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision. Name another one with --revision."
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such data set, or it is private. Check its name, or sign in with `hf auth login`."
    if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        return "no credentials. Sign in with `hf auth login`, or set HF_TOKEN."
    if status == 403:
        return "the token may not do that. Take one that may write to this name, or another name."
    if isinstance(error, errors.HFValidationError):
        return f"this is no name of a data set: {error}"
    if status is not None:
        return f"it answered {status}. Try again later."
    if isinstance(error, (errors.HfHubHTTPError, ConnectionError)):
        return "it cannot be reached. Check the connection, and HF_ENDPOINT if that is set."
    return f"{getattr(error, 'strerror', None) or error}."


@dataclass(frozen=True)
class UrlPlace:
    """A folder below a URL: file://, memory://, s3://, gs://, sftp:// and what else fsspec and its packages know."""

    url: str

    @property
    def name(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def has(self, name: str) -> bool:
        with self._told():
            return bool(self._files.exists(self._path(name)))

    def put(self, files: Mapping[str, Path]) -> None:
        with self._told():
            for name, file in files.items():
                path = self._path(name)
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(file), path)

    def get(self, name: str, to: Path) -> bool:
        to.parent.mkdir(parents=True, exist_ok=True)
        with self._told():
            if not self._files.exists(self._path(name)):
                return False
            self._files.get_file(self._path(name), str(to))
            return True

    def _path(self, name: str) -> str:
        return f"{self._opened[1].rstrip('/')}/{name}"

    @property
    def _files(self) -> Any:  # noqa: ANN401
        return self._opened[0]

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system of fsspec, and the path in it."""
        import fsspec

        try:
            system, path = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise InvalidRequest(f"“{self.name}” cannot be opened: {error}") from error
        return system, str(path)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            _ = self._opened
            yield
        except InvalidRequest:
            raise
        except Exception as error:  # each package has its own
            told = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            raise TransferFailed(f"“{self.name}”: {told}. Check the address and your credentials for it.") from error
