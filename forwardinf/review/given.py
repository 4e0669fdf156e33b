"""Files and folders that are named for a case, as pictures to add."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import InvalidRequest
from ..examples.decoding.picture import MAX_BYTES
from ..examples.layouts.metadata_jsonl import METADATA
from ..examples.layouts.paths import SUFFIXES
from .cases import Given


def given_from(paths: Iterable[Path], prompt: str = "") -> Iterator[Given]:
    """The pictures in these files and folders, in order, each with the prompt that it was generated from.

    A folder stands for the picture files that lie in it, by name; a `metadata.jsonl` there gives their prompts, as
    `file_name` and `text`. Raises InvalidRequest for what is not there, and for a folder without pictures.
    """
    for file_path, own_prompt in [named for path in paths for named in _files(path, prompt)]:
        try:
            with file_path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)  # one too many is refused when it is read as a picture
        except OSError as error:
            raise InvalidRequest(f"“{file_path.name}” cannot be read: {error.strerror}.") from error
        yield Given(file_path.name, content, own_prompt)


def _files(path: Path, prompt: str) -> list[tuple[Path, str]]:
    if path.is_file():
        return [(path, prompt)]
    if not path.is_dir():
        raise InvalidRequest(f"There is no file or folder “{path}”.")
    prompts = _prompts(path)
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not found:
        raise InvalidRequest(
            f"The folder “{path.name}” holds no picture ({', '.join(SUFFIXES)}); its subfolders are not searched."
        )
    return [(file, prompts.get(file.name, prompt)) for file in found]


def _prompts(folder: Path) -> dict[str, str]:
    if not (folder / METADATA).is_file():
        return {}
    try:
        lines = (folder / METADATA).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"“{folder.name}/{METADATA}” is not text in UTF-8. Save it as that.") from error
    return dict(_prompt(folder, number, line) for number, line in enumerate(lines, 1) if line.strip())


def _prompt(folder: Path, number: int, line: str) -> tuple[str, str]:
    try:
        fields = json.loads(line)
        return str(fields["file_name"]), str(fields.get("text") or "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"“{folder.name}/{METADATA}” line {number} needs a JSON object with file_name.") from error
