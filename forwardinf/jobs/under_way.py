"""Long work of a server, by name: what has not ended when its process does is known to the next one."""

from __future__ import annotations

import logging
from pathlib import Path

from ..files.atomic import write_text

log = logging.getLogger(__name__)

ATTEMPTS = 2  # of work that ends the process before it gets anywhere


class UnderWay:
    """A folder with a file for each work that has not ended; it holds how often that ended the process in a row."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, name: str) -> None:
        self._write(name, self._attempts(name) + 1)

    def got_on(self, name: str) -> None:
        """Some of it is done for good, so what ends the process from here on is something else."""
        self._write(name, 1)

    def leave(self, name: str) -> None:
        """The process ends in order, and the work is not to blame for that."""
        self._write(name, 0)

    def end(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def left_over(self) -> list[tuple[str, bool]]:
        """The work that has not ended, and whether it is worth another attempt."""
        names = sorted(path.name for path in self.folder.glob("[!.]*"))
        return [(name, self._attempts(name) < ATTEMPTS) for name in names]

    def _attempts(self, name: str) -> int:
        try:
            return int((self.folder / name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def _write(self, name: str, attempts: int) -> None:
        """A full disk does not keep anybody from working."""
        try:
            write_text(self.folder / name, str(attempts))
        except OSError as error:
            log.warning("It could not be kept that “%s” is under way.", name, exc_info=error)
