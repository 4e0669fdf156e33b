"""Where the app writes: finished results, and a temporary folder that is removed when the app ends."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..errors import InvalidSettings
from ..files import atomic

log = logging.getLogger(__name__)

# Gradio puts uploads there, and reads the variable whenever it needs it.
GRADIO_FOLDER = "GRADIO_TEMP_DIR"
PREFIX = "forwardinf-app-"  # of the temporary folder
CUT_OFF = 3600  # seconds after which an upload does not go on


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for generated and uploaded pictures, removed with all of them at the end, or else at the next start.

    A folder that the environment names for uploads is used for those, and left in place. Raises InvalidSettings where
    nothing can be written.
    """
    named = os.environ.get(GRADIO_FOLDER)
    if named:
        _require_writable(Path(named), f"the uploads' folder that {GRADIO_FOLDER} names")
    with ExitStack() as kept:
        try:
            path = kept.enter_context(atomic.temporary_folder(Path(tempfile.gettempdir()), PREFIX))
        except OSError as error:
            raise InvalidSettings(
                f"There is no folder for temporary files ({error.strerror or error}). Name one by TMPDIR."
            ) from error
        if not named:
            os.environ[GRADIO_FOLDER] = str(path / "uploads")
        try:
            yield path
        finally:
            if not named:
                del os.environ[GRADIO_FOLDER]


def clear_cut_off_uploads() -> None:
    """Remove what Gradio began to receive over an hour ago; a file that arrived whole lies in a folder of its own."""
    received = os.environ.get(GRADIO_FOLDER)
    for file in Path(received).glob("tmp*") if received else ():
        with suppress(OSError):
            if file.is_file() and file.stat().st_mtime < time.time() - CUT_OFF:
                file.unlink()


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


def beside(results: Path, name: str) -> Path:
    """A folder of its own for what belongs to these results, and is none of them."""
    return results.with_name(f"{results.name}-{name}")


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
