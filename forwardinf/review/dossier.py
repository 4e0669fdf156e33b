"""Everything that is known of a case, gathered once, for the report and for the evidence pack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import MissingAsset
from ..records.record import CAUTION
from ..records.store import RecordStore, Result
from .agreement import Agreement, Contradiction, agreement_of, contradictions
from .cases import Case, Picture, original_of, pictures_of
from .chain import Decision, head_of, standing
from .database import Database
from .decisions import decisions_of
from .findings import Finding, FoundMatch, finding_of, phashes_of
from .signals import Signal, signals_of

SHOWN = 5  # matches of a picture that a report shows at least, beside those that were decided on

METHOD = (
    "Each picture was given to the model as if it were to learn from it: one small step of training on the picture "
    "alone. Where that step changes how well the model predicts a training image, more than it does for pictures that "
    "the model never saw, the training image is estimated to have had an influence on the picture.",
    "An image stands out where its score is higher than what such unseen pictures reach, at a false-discovery rate of "
    "10 %. The range of a rank is what it becomes when any one noise level is left out.",
)
LIMITS = (
    CAUTION,
    "Influence is estimated from the model, not observed in its training. That no image stands out does not show that "
    "none had an influence.",
    "Only the training images in the index were examined. Others that the model may have been trained on were not, nor "
    "was any work outside of its training set.",
    "Licences, credits and opt-outs are what catalogs and files state; it was not examined whether they are true.",
    "Whether a picture infringes a right is what people decided, with the reasons they gave. It is not a finding of "
    "the machine, and not legal advice.",
)

Thumbnail = Callable[[str, FoundMatch], bytes | None]  # of an index, by fingerprint, and a match; None if absent


@dataclass(frozen=True)
class Entry:
    """A picture of a case, with all that was found, said and decided of it."""

    picture: Picture
    original: bytes
    result: Result | None  # None where it was not examined
    finding: Finding | None
    decisions: tuple[Decision, ...]  # all, in their order
    signals: tuple[Signal, ...]  # of the picture and of its matches
    thumbnails: dict[str, bytes]  # by the match's id

    @property
    def standing(self) -> list[Decision]:
        return list(standing(self.decisions).values())

    @property
    def shown(self) -> list[FoundMatch]:
        """The matches that a report shows: the first ones, those that stand out, and those that were decided on."""
        decided = {decision.match for decision in self.decisions}
        matches = self.finding.matches if self.finding else ()
        return [one for one in matches if one.rank <= SHOWN or one.stands_out or one.example_id in decided]

    def signals_of(self, sha256: str) -> list[Signal]:
        return [signal for signal in self.signals if signal.sha256 == sha256]


@dataclass(frozen=True)
class Dossier:
    """A case as it stands; the same case gives the same one."""

    case: Case
    entries: tuple[Entry, ...]
    decisions: tuple[Decision, ...]
    head: str  # of the chain of decisions
    agreement: Agreement
    contradictions: tuple[Contradiction, ...]

    @property
    def as_of(self) -> str:
        """When the last thing happened that this rests on."""
        times = [self.case.created_at, *(entry.picture.added_at for entry in self.entries)]
        times += [entry.finding.answered_at for entry in self.entries if entry.finding]
        times += [signal.read_at for entry in self.entries for signal in entry.signals]
        return max(times + [decision.at for decision in self.decisions])

    @property
    def not_examined(self) -> list[Picture]:
        return [entry.picture for entry in self.entries if entry.finding is None]

    def as_json(self) -> dict[str, Any]:
        """What is known, for machines: what the machine found and what people decided in places of their own."""
        return {
            "case": self.case.name,
            "created_at": self.case.created_at,
            "as_of": self.as_of,
            "limits": list(LIMITS),
            "head_of_decisions": self.head,
            "agreement": asdict(self.agreement),
            "contradictions": [[one.first.number, one.second.number] for one in self.contradictions],
            "pictures": [_entry_as_json(entry) for entry in self.entries],
        }


def gather(database: Database, case: Case, store: RecordStore, thumbnail: Thumbnail) -> Dossier:
    """All that is known of a case.

    Raises DamagedAsset where the chain of decisions is broken or a kept answer changed, MissingAsset where one is gone.
    """
    decisions = decisions_of(database, case)
    entries = tuple(_entry(database, store, picture, decisions, thumbnail) for picture in pictures_of(database, case))
    return Dossier(
        case=case,
        entries=entries,
        decisions=tuple(decisions),
        head=head_of(case.name, case.created_at, decisions),
        agreement=agreement_of(decisions),
        contradictions=tuple(contradictions(decisions, phashes_of(database, case))),
    )


def _entry(
    database: Database, store: RecordStore, picture: Picture, decisions: list[Decision], thumbnail: Thumbnail
) -> Entry:
    finding = finding_of(database, picture)
    matches = finding.matches if finding else ()
    thumbnails = {one.example_id: thumbnail(finding.index_fingerprint, one) for one in matches if finding}
    digests = dict.fromkeys((picture.sha256, *(one.sha256 for one in matches)))
    return Entry(
        picture=picture,
        original=original_of(database, picture.sha256),
        result=_kept(store, picture, finding) if finding else None,
        finding=finding,
        decisions=tuple(one for one in decisions if one.picture == picture.sha256),
        signals=tuple(signals_of(database, *digests)),
        thumbnails={name: content for name, content in thumbnails.items() if content},
    )


def _kept(store: RecordStore, picture: Picture, finding: Finding) -> Result:
    try:
        return store.load(finding.result_id)
    except MissingAsset as error:
        raise MissingAsset(
            f"The answer about picture {picture.number} ({picture.file_name}) is not in the results folder any more. "
            "Name the folder that has it by --results, or run the case again."
        ) from error


def _entry_as_json(entry: Entry) -> dict[str, Any]:
    said = {"verdict": entry.finding.verdict, **asdict(entry.finding)} if entry.finding else None
    return {
        "picture": {name: value for name, value in asdict(entry.picture).items() if name != "id"},
        "machine": said,
        "people": [decision.as_json() for decision in entry.decisions],
        "signals": [asdict(signal) for signal in entry.signals],
    }
