"""HTML of one picture of a case: what is decided on, by whom, and what the machine found beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...records.text import licence_name
from ...review.agreement import Contradiction, contradictions
from ...review.cases import Case, Picture, pictures_of
from ...review.chain import VERDICTS, Decision, standing
from ...review.database import Database, storable
from ...review.decisions import decisions_of
from ...review.findings import Finding, FoundMatch, finding_of, phashes_of
from ...review.overview import Wanted, lines_of
from ...review.signals import Signal, signals_of
from ..templates import render
from ..training_view import link
from ..view import comparison
from .view import UrlOf

WHOLE = "the picture as a whole"
NO_MATCH = "No training image to compare with"


@dataclass(frozen=True)
class Reviewed:
    """A picture with all that was found, said and decided of it."""

    case: Case
    picture: Picture
    finding: Finding | None
    decisions: tuple[Decision, ...]  # on the picture and its matches
    author: str  # who looks at it
    signals: Mapping[str, Sequence[Signal]]  # by the SHA-256 of a picture or a training image
    contradictions: tuple[tuple[Contradiction, Picture], ...]  # each with the picture on its other side
    undecided: tuple[int, ...]  # numbers of the case's pictures that the author has not decided as a whole

    @property
    def matches(self) -> tuple[FoundMatch, ...]:
        return self.finding.matches if self.finding else ()


@dataclass(frozen=True)
class Subject:
    """What can be decided on."""

    id: str  # of the training image; empty for the picture as a whole
    title: str
    note: str
    thumbnail: str | None  # beside the title
    url: str | None  # of what the picture is compared with
    caption: str
    match: FoundMatch | None
    signals: Sequence[Signal]


def reviewed(database: Database, case: Case, picture: Picture, author: str) -> Reviewed:
    """All that is known of a picture; raises DamagedAsset where the chain of decisions is broken."""
    made, finding = decisions_of(database, case), finding_of(database, picture)
    by_sha256 = {one.sha256: one for one in pictures_of(database, case)}
    sides = [
        (pair, by_sha256[pair.second.picture if pair.first.picture == picture.sha256 else pair.first.picture])
        for pair in contradictions(made, phashes_of(database, case))
        if picture.sha256 in (pair.first.picture, pair.second.picture)
    ]
    digests = {picture.sha256, *(match.sha256 for match in (finding.matches if finding else ()))}
    stated: dict[str, list[Signal]] = {}
    for one in signals_of(database, *digests):
        stated.setdefault(one.sha256, []).append(one)
    open_ones = lines_of(database, case, Wanted("undecided", author=storable(author) or None))
    return Reviewed(
        case=case,
        picture=picture,
        finding=finding,
        decisions=tuple(one for one in made if one.picture == picture.sha256),
        author=storable(author),
        signals=stated,
        contradictions=tuple(sides),
        undecided=tuple(line.picture.number for line in open_ones),
    )


def picture(found: Reviewed, root: str, url_of: UrlOf) -> str:
    """The picture beside its matches, and the fields to decide in."""
    subjects = _subjects(found, root, url_of)
    stand = standing(found.decisions)
    own = {match or "": one for (_, match, author), one in stand.items() if author == found.author}
    by_subject = {one.id: [made for made in found.decisions if (made.match or "") == one.id] for one in subjects}
    return render(
        "case_picture.html",
        root=root,
        case=found.case,
        picture=found.picture,
        finding=found.finding,
        undecided=found.undecided,
        contradictions=[(pair, other, _url(found, other, root)) for pair, other in found.contradictions],
        subjects=subjects,
        own=own,
        histories={subject: history(made) for subject, made in by_subject.items()},
        verdicts=VERDICTS,
        comparison=comparison(_picture_url(found, root), subjects[0].url, subjects[0].caption, "side", keys=True),
        link=link,
        licence_name=licence_name,
    )


def bench(shown: str, author: str, signed_in: bool) -> str:
    """What stays while pictures follow one another: who reviews, what is saved, and the keys."""
    return render("case_bench.html", picture=shown, author=author, signed_in=signed_in, verdicts=VERDICTS)


def history(decisions: Sequence[Decision]) -> str:
    """Every decision on one subject, the last one first."""
    return render(
        "case_history.html", decisions=decisions, standing={one.number for one in standing(decisions).values()}
    )


def _subjects(found: Reviewed, root: str, url_of: UrlOf) -> list[Subject]:
    matches = [_match(found, match, root, url_of) for match in found.matches]
    best = matches[0] if matches else None
    whole = Subject(
        id="",
        title=WHOLE,
        note="",
        thumbnail=_picture_url(found, root),
        url=best.url if best else None,
        caption=best.caption if best else NO_MATCH,
        match=None,
        signals=found.signals.get(found.picture.sha256, ()),
    )
    return [whole, *matches]


def _match(found: Reviewed, match: FoundMatch, root: str, url_of: UrlOf) -> Subject:
    fingerprint = found.finding.index_fingerprint if found.finding else None
    at = url_of(match.example_id, fingerprint)
    url = f"{root}/{at}" if at else None
    return Subject(
        id=match.example_id,
        title=f"match {match.rank}: {match.subject}",
        note=f"{match.creator} · {licence_name(match.licence)}" + (" · stands out" if match.stands_out else ""),
        thumbnail=url,
        url=url,
        caption=match.caption if url else NO_MATCH,
        match=match,
        signals=found.signals.get(match.sha256, ()),
    )


def _url(found: Reviewed, other: Picture, root: str) -> str:
    return f"{root}/cases/{found.case.id}/{other.number}"


def _picture_url(found: Reviewed, root: str) -> str:
    return f"{_url(found, found.picture, root)}/picture.png?{found.picture.sha256[:8]}"
