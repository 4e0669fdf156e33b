"""Attributing the pictures of a case one after the other; what is answered stays, so a run that was cut off goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from ..attribution.answer import answer_of
from ..attribution.attributor import Attributor
from ..attribution.progress import AttributionProgress
from ..attribution.shortlist import Effort
from ..errors import DamagedAsset, ForwardInfError, MissingAsset, StopRequested, StorageFailed
from ..examples.catalog import Catalog
from ..examples.decoding import read_picture
from ..methods.protocol import AttributionMethod
from ..records.keeping import answered_before, keep
from ..records.store import RecordStore, Result
from .cases import Case, Picture, original_of, pictures_of
from .database import Database
from .findings import finding_of, keep_answer
from .signals import note_answer

TOP = 20  # images that an answer lists, as in the app


@dataclass(frozen=True)
class Outcome:
    """What became of one picture of a run."""

    picture: Picture
    result: Result | None  # None where it could not be answered
    problem: str = ""


@dataclass(frozen=True)
class CaseRun:
    """What answers the pictures of a case, and where answers are kept."""

    database: Database
    attributor: Attributor
    store: RecordStore
    method: AttributionMethod
    effort: Effort | None  # None weighs every image
    training_images: Catalog | None = None  # the folder that holds their files, to be searched for statements
    on_progress: Callable[[AttributionProgress], None] = lambda progress: None

    def waiting(self, case: Case) -> list[Picture]:
        """The pictures without an answer of this model and this index that is still kept."""
        return [picture for picture in pictures_of(self.database, case) if not self._is_answered(picture)]

    def outcomes(self, case: Case) -> Iterator[Outcome]:
        """Answer the pictures that wait, by number; one that cannot be answered does not keep the others waiting.

        Raises StorageFailed where an answer cannot be kept: the next one could not be either.
        """
        for picture in self.waiting(case):
            for step in self.steps(picture):
                if isinstance(step, Outcome):
                    yield step
                else:
                    self.on_progress(step)

    def steps(self, picture: Picture) -> Generator[AttributionProgress | Outcome, None, None]:
        """How far the answer about one picture is, again and again, and at last what became of it.

        Raises StorageFailed where it cannot be kept, and StopRequested where it is not wanted any more.
        """
        phashes = {image.id: image.phash for image in self.attributor.index.catalog.images}
        try:
            result = yield from self._answered(picture)
            note_answer(self.database, result.record, result.original, self.training_images)
            keep_answer(self.database, picture, result, phashes)
        except (StorageFailed, StopRequested):
            raise
        except ForwardInfError as error:
            yield Outcome(picture, None, str(error))
        else:
            yield Outcome(picture, result)

    def _is_answered(self, picture: Picture) -> bool:
        index, finding = self.attributor.index, finding_of(self.database, picture)
        asked = index.info.fingerprint, index.fingerprint
        if finding is None or (finding.model, finding.index_fingerprint) != asked:
            return False
        try:
            self.store.load(finding.result_id)
        except (MissingAsset, DamagedAsset):
            return False
        return True

    def _answered(self, picture: Picture) -> Generator[AttributionProgress, None, Result]:
        """The answer about a picture, which was perhaps kept when the same was asked elsewhere."""
        index, prompt = self.attributor.index, picture.prompt
        if known := answered_before(self.store, index, picture.sha256, prompt, self.method, self.effort):
            return known
        began, original = time.perf_counter(), original_of(self.database, picture.sha256)
        read = read_picture(original, name=picture.file_name)
        query = self.attributor.query(read.rgb, prompt, read.sha256)
        with closing(self.attributor.follow(query, self.method, self.effort)) as sweep:
            for now in sweep:
                yield now
        answer, seconds = answer_of(self.attributor, query, self.method, now), round(time.perf_counter() - began, 1)
        keep_it = partial(keep, name=picture.file_name, top=TOP, model=self.attributor.model)
        return keep_it(self.store, answer, index, read, original, seconds=seconds)
