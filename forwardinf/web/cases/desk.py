"""What the reviewers' pages stand on: the database of cases, the index, and kept answers."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...config import Settings
from ...errors import DamagedAsset, MissingAsset, StorageFailed
from ...examples.decoding import read_picture, to_square
from ...files import atomic
from ...index.store import Index
from ...jobs.under_way import UnderWay
from ...records.history import History
from ...records.keeping import QUERY_SIDE, png_of
from ...records.store import FolderStore
from ...review.cases import Picture, numbered_case, original_of
from ...review.database import FILE_NAME, Database
from ...review.dossier import Dossier, gather
from ...review.findings import Finding, finding_of
from ...review.thumbnails import thumbnails_in
from ..frame import Navigation
from ..served import Served
from .runs import CaseRuns

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desk:
    served: Served
    kept: FolderStore  # the answers but those that ship
    where: Path | str  # the database's file, or its URL
    navigation: Navigation
    signing_key: Path | None = None
    timestamp_url: str | None = None

    @classmethod
    def of(cls, served: Served, settings: Settings, kept: FolderStore, navigation: Navigation) -> Desk:
        """With the database that `settings` name, or the one beside the folder of `kept` answers."""
        where = settings.review_url or kept.folder.parent / FILE_NAME
        return cls(served, kept, where, navigation, settings.signing_key, settings.timestamp_url)

    @cached_property
    def database(self) -> Database:
        """Opened by the first page that needs it; raises StorageFailed where it cannot be."""
        return Database.open(self.where)

    @cached_property
    def history(self) -> History:
        return History(self.kept)

    @cached_property
    def runs(self) -> CaseRuns:
        return CaseRuns(self.served, self.database, self._under_way)

    @property
    def _under_way(self) -> UnderWay:
        """Beside the runs of questions, which are one process's as well."""
        of = f"-{self.index.fingerprint[:12]}" if self.served.prefix else ""
        return UnderWay(self.served.runs.folder / f"cases{of}")

    def go_on(self) -> None:
        """Start the runs again that had not ended when the app did."""
        try:
            if self._under_way.left_over():
                self.runs.go_on()
        except StorageFailed as error:
            log.error("Runs of cases do not go on.", exc_info=error)

    def close(self) -> None:
        """Stop every run."""
        if runs := vars(self).get("runs"):
            runs.close()

    @property
    def index(self) -> Index:
        return self.served.index

    def gathered(self, case_id: int) -> Dossier:
        """All that is known of a case, for its report."""
        case = numbered_case(self.database, case_id)
        return gather(self.database, case, self.served.results, thumbnails_in(self.index))

    def png_of(self, picture: Picture) -> bytes:
        """A picture as the model sees it: from its answer, or decoded once and kept until the app ends."""
        finding = finding_of(self.database, picture)
        if finding and (kept := self._answered(finding)):
            return kept
        file = self.served.folder / "cases" / f"{picture.sha256}.png"
        if not file.is_file():
            read = read_picture(original_of(self.database, picture.sha256), name=picture.file_name)
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(file, png_of(to_square(read.rgb, QUERY_SIDE)))
        return file.read_bytes()

    def url_of(self, example_id: str | None, index_fingerprint: str | None) -> str | None:
        """Where the browser finds a training image; None for one of an index that is not served."""
        of = self.served.of_index(index_fingerprint or "")
        known = of is not None and example_id in of.catalog.by_id
        return self.served.from_here(of, of.url_of(example_id or "")) if of and known else None

    def _answered(self, finding: Finding) -> bytes | None:
        try:
            return self.served.results.load(finding.result_id).picture
        except (MissingAsset, DamagedAsset):
            return None
