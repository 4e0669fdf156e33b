"""Where the app writes: finished results, and a temporary folder that is removed when the app ends."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InvalidSettings

log = logging.getLogger(__name__)

# Gradio puts uploads there, and reads the variable whenever it needs it.
GRADIO_FOLDER = "GRADIO_TEMP_DIR"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for generated and uploaded pictures, removed with all of them at the end.

    A folder that the environment names for uploads is used for those, and left in place. Raises InvalidSettings where
    nothing can be written.
    """
    named = os.environ.get(GRADIO_FOLDER)
    if named:
        _require_writable(Path(named), f"the uploads' folder that {GRADIO_FOLDER} names")
    try:
        folder = tempfile.TemporaryDirectory(prefix="forwardinf-")
    except OSError as error:
        raise InvalidSettings(
            f"There is no folder for temporary files ({error.strerror or error}). Name one by TMPDIR."
        ) from error
    with folder as path:
        if not named:
            os.environ[GRADIO_FOLDER] = str(Path(path, "uploads"))
        try:
            yield Path(path)
        finally:
            if not named:
                del os.environ[GRADIO_FOLDER]


def results_folder(chosen: Path | None, temporary: Path) -> Path:
    """Where finished attributions are kept: the folder `chosen`, or one below the user's home.

    Where no folder was chosen and there is no home to write to, `temporary` takes them, and the log says so. Raises
    InvalidSettings where nothing can be written to `chosen`.
    """
    if chosen is not None:
        return _require_writable(chosen, "the results folder")
    try:
        return _require_writable(Path.home() / ".local/share/forwardinf/results", "the results folder")
    except (RuntimeError, InvalidSettings):  # RuntimeError: the user has no home
        log.warning(
            "Results are kept only until the app ends: there is no home folder that can be written to. "
            "Set --results or FORWARDINF_RESULTS to keep them."
        )
        return temporary / "results"


def _require_writable(folder: Path, what: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InvalidSettings(
            f"Nothing can be written to “{folder.name}”, {what} ({error.strerror or error}). "
            "Name another folder, or change its permissions."
        ) from error
    return folder
