"""Cases: what is added, what is decided and taken back, and what a reviewer sees of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_cases import CASE, answer, given, made_case, opened, png
from made_records import match
from sqlalchemy import text

from forwardinf.errors import DamagedAsset, InvalidRequest, MissingAsset, StorageFailed
from forwardinf.records.store import FolderStore
from forwardinf.review.agreement import agreement_of, contradictions
from forwardinf.review.cases import Given, add_pictures, find_picture, list_cases, load_case, original_of, pictures_of
from forwardinf.review.chain import head_of, linked, standing
from forwardinf.review.database import Database
from forwardinf.review.decisions import decide, decisions_of, withdraw
from forwardinf.review.findings import finding_of
from forwardinf.review.given import given_from
from forwardinf.review.overview import Wanted, lines_of, next_undecided


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return opened(tmp_path)


def by(author: str = "Ada", reason: str = "same pose") -> dict[str, str]:
    return {"author": author, "reason": reason}


# Pictures


def test_a_broken_picture_is_named_and_the_others_are_kept(database: Database):
    added = add_pictures(database, CASE, [*given(0, prompt="a cat"), Given("b.png", png(1)[:40]), *given(2)])
    assert [(picture.number, picture.file_name, picture.prompt) for picture in added.kept] == [
        (1, "0.png", "a cat"),
        (2, "2.png", ""),
    ]
    assert len(added.refused) == 1
    assert added.refused[0].startswith("“b.png”")
    assert original_of(database, added.kept[1].sha256) == png(2)


def test_a_case_is_not_begun_where_nothing_can_be_read(database: Database):
    assert add_pictures(database, CASE, [Given("b.png", b"nothing")]).refused
    assert list_cases(database) == []


def test_the_same_picture_twice_is_one(database: Database):
    add_pictures(database, CASE, given(0, prompt="a cat"))
    added = add_pictures(database, CASE, [*given(0, prompt="a dog"), replace(given(0)[0], name="copy.png")])
    assert not added.kept
    assert added.known[0] == "“0.png” is picture 1 of the case already. Its prompt there, “a cat”, stays."
    assert [picture.prompt for picture in pictures_of(database, load_case(database, CASE))] == ["a cat"]


def test_a_picture_may_be_in_several_cases(database: Database):
    add_pictures(database, "one", given(0))
    assert [picture.number for picture in add_pictures(database, "two", given(0)).kept] == [1]
    assert [(case.name, case.pictures) for case in list_cases(database)] == [("one", 1), ("two", 1)]


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", "a\nb", "a\0b", "-x", "x" * 81, "ends.", "“a”", "\udcff"])
def test_a_name_with_odd_characters_is_refused(database: Database, name: str):
    with pytest.raises(InvalidRequest, match="cannot be named"):
        add_pictures(database, name, given(0))


@pytest.mark.parametrize("name", ["Ada v. Machine", "Ünïcode 漢字 (2)", "2026-01"])
def test_a_case_is_found_under_its_name(database: Database, name: str):
    add_pictures(database, f" {name} ", given(0))
    assert load_case(database, name).pictures == 1


def test_a_case_that_is_not_there_is_named(database: Database):
    with pytest.raises(MissingAsset, match="no case “else”"):
        load_case(database, "else")


def test_a_picture_is_found_by_number_name_or_digest(database: Database):
    case, (first, second) = made_case(database, 0, 1)
    for which in ("2", "1.png", second.sha256[:8], second.sha256.upper()):
        assert find_picture(database, case, which) == second
    for which in ("3", "x.png", second.sha256[:7], ""):
        with pytest.raises(InvalidRequest, match="names no picture"):
            find_picture(database, case, which)
    assert first != second


def test_a_folder_stands_for_its_pictures_and_gives_their_prompts(tmp_path: Path):
    (tmp_path / "b.PNG").write_bytes(png(1))
    (tmp_path / "a.png").write_bytes(png(0))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "a cat"}) + "\n")
    found = list(given_from([tmp_path, tmp_path / "a.png"], "a dog"))
    assert [(one.name, one.prompt) for one in found] == [("a.png", "a cat"), ("b.PNG", "a dog"), ("a.png", "a dog")]
    assert found[1].content == png(1)


def test_what_holds_no_picture_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InvalidRequest, match="holds no picture"):
        list(given_from([tmp_path]))
    with pytest.raises(InvalidRequest, match="no file or folder"):
        list(given_from([tmp_path / "absent"]))
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}\n[]\n')
    with pytest.raises(InvalidRequest, match="line 2"):
        list(given_from([tmp_path]))


# Decisions


def test_a_decision_says_what_was_decided_on(database: Database, tmp_path: Path):
    case, (picture,) = made_case(database)
    result = answer(database, FolderStore(tmp_path / "results"), picture)
    made = decide(database, case, picture, "infringes", match="openmoji-1", **by())
    assert (made.number, made.subject, made.verdict) == (1, (picture.sha256, "openmoji-1"), "infringes")
    assert made.result == result.id
    assert made.record == finding_of(database, picture).record_sha256
    assert decisions_of(database, case) == [made]


def test_a_decision_is_taken_back_by_a_further_one(database: Database):
    case, (picture,) = made_case(database)
    first = decide(database, case, picture, "infringes", **by())
    taken = withdraw(database, case, 1, **by(reason="wrong picture"))
    assert (taken.withdraws, taken.former) == (1, first.hash)
    assert decisions_of(database, case) == [first, taken]
    assert lines_of(database, case)[0].people == ()
    for number, why in ((1, "does not stand"), (2, "does not stand"), (3, "no decision 3")):
        with pytest.raises(InvalidRequest, match=why):
            withdraw(database, case, number, **by())


def test_a_later_decision_takes_the_place_of_the_same_authors_only(database: Database):
    case, (picture,) = made_case(database)
    decide(database, case, picture, "infringes", **by("Ada"))
    decide(database, case, picture, "licensed", **by("Bo"))
    decide(database, case, picture, "unsure", **by("Ada"))
    assert {one.author: one.verdict for one in lines_of(database, case)[0].people} == {
        "Ada": "unsure",
        "Bo": "licensed",
    }
    with pytest.raises(InvalidRequest, match="by Bo, who alone"):
        withdraw(database, case, 2, **by("Ada"))


@pytest.mark.parametrize(
    ("verdict", "change", "why"),
    [
        ("copied", {}, "is no verdict"),
        ("withdrawn", {}, "is no verdict"),
        ("unsure", {"author": " "}, "needs an author"),
        ("unsure", {"reason": "\0"}, "needs a reason"),
        ("unsure", {"reason": "x" * 10_001}, "at most 10,000"),
        ("unsure", {"match": "openmoji-2"}, "not among the 1 matches"),
    ],
)
def test_a_decision_that_cannot_be_is_refused(database: Database, tmp_path: Path, verdict: str, change: dict, why: str):
    case, (picture,) = made_case(database)
    answer(database, FolderStore(tmp_path / "results"), picture)
    with pytest.raises(InvalidRequest, match=why):
        decide(database, case, picture, verdict, **{**by(), **change})
    assert decisions_of(database, case) == []


def test_a_match_cannot_be_decided_before_there_is_an_answer(database: Database):
    case, (picture,) = made_case(database)
    with pytest.raises(InvalidRequest, match="no answer yet"):
        decide(database, case, picture, "infringes", match="openmoji-1", **by())


@pytest.mark.parametrize(
    "statement",
    ["UPDATE decisions SET reason = 'other'", "DELETE FROM decisions", "DELETE FROM decisions WHERE number = 1"],
)
def test_the_database_itself_forbids_to_change_a_decision(database: Database, statement: str):
    case, (picture,) = made_case(database)
    made = decide(database, case, picture, "infringes", **by())
    with pytest.raises(StorageFailed, match="never changed or removed"), database.writing() as connection:
        connection.execute(text(statement))
    assert decisions_of(database, case) == [made]


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE decisions SET reason = 'other' WHERE number = 2", "Decision 2 of .* is not as it was made"),
        ("UPDATE decisions SET hash = 'other' WHERE number = 1", "Decision 1 of .* is not as it was made"),
        ("DELETE FROM decisions WHERE number = 2", "jump from 1 to 3"),
        ("DELETE FROM decisions WHERE number = 1", "jump from 0 to 2"),
        ("UPDATE cases SET created_at = '2020-01-01T00:00:00Z'", "Decision 1 of .* does not follow"),
    ],
)
def test_what_was_changed_behind_the_triggers_breaks_the_chain(database: Database, statement: str, why: str):
    case, (picture,) = made_case(database)
    for _ in range(3):
        decide(database, case, picture, "unsure", **by())
    with database.writing() as connection:
        for event in ("UPDATE", "DELETE"):
            connection.execute(text(f"DROP TRIGGER decisions_no_{event}"))
        connection.execute(text(statement))
    with pytest.raises(DamagedAsset, match=why):
        decisions_of(database, load_case(database, CASE))


def test_a_link_that_is_forged_whole_does_not_follow_and_is_not_followed():
    first = linked(head_of("a", "b", []), {**made(1), "verdict": "unsure"})
    second = linked(first.hash, {**made(2), "verdict": "licensed"})
    assert head_of("a", "b", [first, second]) == second.hash
    forged = linked(first.former, {**made(1), "verdict": "infringes"})
    with pytest.raises(DamagedAsset, match=r"Decision 2 .* does not follow"):
        head_of("a", "b", [forged, second])


def made(number: int, picture: str = "p", match: str | None = None, author: str = "Ada") -> dict:
    return {
        **{"number": number, "picture": picture, "match": match, "withdraws": None, "reason": "r", "author": author},
        **{"at": "2026-01-01T00:00:00Z", "result": "", "record": ""},
    }


# What a reviewer sees


def test_pictures_are_filtered_searched_and_sorted(database: Database, tmp_path: Path):
    case, (first, second, third) = made_case(database, 0, 1, 2)
    store = FolderStore(tmp_path / "results")
    answer(database, store, first, match(score=1.0, similarity=0.9, stands_out=False))
    answer(database, store, second, match(score=5.0, similarity=0.1), match(rank=2, id="x", creator="100% Bo_b"))
    decide(database, case, first, "no match", **by("Ada"))
    decide(database, case, second, "infringes", match="x", **by("Bo"))

    def numbers(**wanted: str) -> list[int]:
        return [line.picture.number for line in lines_of(database, case, Wanted(**wanted))]

    assert numbers(order="score") == [2, 1, 3]
    assert numbers(order="similarity") == [1, 2, 3]
    assert numbers(status="unanswered") == [3]
    assert numbers(status="stands out") == [2]
    assert numbers(status="decided") == [1]
    assert numbers(status="undecided") == [2, 3]
    assert numbers(status="undecided", author="Bo") == [1, 2, 3]
    assert numbers(verdict="infringes") == [2]
    assert numbers(verdict="infringes", author="Ada") == []
    assert numbers(search="100% bo_b") == [2]
    assert numbers(search="0%_") == []
    assert numbers(search="2.PNG") == [3]
    line = lines_of(database, case)[1]
    assert (line.best, line.best_score, line.number_standing_out) == ("openmoji-1", 5.0, 2)
    assert [one.match for one in line.people] == ["x"]
    assert third.number == 3


@pytest.mark.parametrize("wanted", [{"status": "open"}, {"verdict": "withdrawn"}, {"order": "size"}])
def test_a_choice_that_there_is_not_is_refused(wanted: dict):
    with pytest.raises(InvalidRequest, match="Use one of"):
        Wanted(**wanted)


def test_the_next_undecided_picture_goes_round(database: Database):
    case, pictures = made_case(database, 0, 1, 2)
    decide(database, case, pictures[1], "no match", **by())
    assert next_undecided(database, case, "Ada", after=1).picture.number == 3
    assert next_undecided(database, case, "Ada", after=3).picture.number == 1
    assert next_undecided(database, case, "Bo", after=1).picture.number == 2
    for picture in pictures:
        decide(database, case, picture, "no match", **by())
    assert next_undecided(database, case) is None


def test_the_last_answer_of_a_picture_counts(database: Database, tmp_path: Path):
    case, (picture,) = made_case(database)
    answer(database, FolderStore(tmp_path / "a"), picture)
    answer(database, FolderStore(tmp_path / "b"), picture, match(id="other", score=9.0))
    assert [one.example_id for one in finding_of(database, picture).matches] == ["other"]
    assert [line.best for line in lines_of(database, case)] == ["other"]
    with pytest.raises(InvalidRequest, match="not among"):
        decide(database, case, picture, "infringes", match="openmoji-1", **by())


# Two reviewers


def chain(*said: tuple[str, str | None, str, str]) -> list:
    """Decisions of (picture, match, author, verdict)."""
    made_so_far = []
    for number, (picture, match_id, author, verdict) in enumerate(said, 1):
        fields = {**made(number, picture, match_id, author), "verdict": verdict}
        made_so_far.append(linked("", fields))
    return made_so_far


def test_agreement_is_krippendorffs_alpha():
    """The nominal example with two observers and ten binary units (Krippendorff 2011, section B): alpha is 0.095."""
    values = {"0": "no match", "1": "infringes"}
    first, second = "0100000000", "1110010010"
    rows = (("A", first), ("B", second))
    said = [(str(unit), None, author, values[row[unit]]) for author, row in rows for unit in range(10)]
    agreement = agreement_of(chain(*said))
    assert agreement.alpha == pytest.approx(0.095, abs=5e-4)
    assert (agreement.reviewers, agreement.shared, agreement.disputed) == (("A", "B"), 10, 4)


def test_agreement_leaves_out_what_only_one_has_decided_and_what_was_withdrawn():
    both = [(unit, None, author, said) for unit, said in (("p", "infringes"), ("q", "unsure")) for author in "AB"]
    alone = [("r", None, "A", "licensed"), ("s", None, "A", "licensed"), ("s", None, "B", "no match")]
    assert agreement_of(chain(*both, alone[0])).alpha == 1.0
    assert agreement_of(chain(*both, *alone)).alpha < 1.0
    assert agreement_of(chain(*both, *alone, ("s", None, "B", "withdrawn"))).alpha == 1.0
    assert agreement_of(chain(*both[:2])).alpha is None
    assert agreement_of(chain(alone[0])).shared == 0


def test_contradictions_are_between_near_duplicates():
    phashes = {"p": "00000000000000ff", "q": "00000000000000fe", "far": "ffffffffffffff00", "m": "0f", "n": "0e"}
    found = contradictions(
        chain(
            ("p", None, "A", "infringes"),
            ("q", None, "A", "no match"),
            ("far", None, "A", "no match"),
            ("p", "m", "A", "infringes"),
            ("q", "n", "B", "licensed"),
            ("p", None, "B", "unsure"),
        ),
        phashes,
    )
    assert [(one.first.number, one.second.number, one.same) for one in found] == [(1, 2, False), (4, 5, False)]


def test_two_reviewers_who_differ_on_the_very_same_are_named():
    (found,) = contradictions(chain(("p", "m", "A", "infringes"), ("p", "m", "B", "licensed")), {})
    assert found.same
    assert contradictions(chain(("p", "m", "A", "infringes"), ("p", "m", "B", "infringes")), {}) == []


def test_what_stands_is_the_last_of_each_author():
    said = chain(("p", None, "A", "infringes"), ("p", None, "A", "unsure"), ("p", "m", "A", "licensed"))
    assert {one.number for one in standing(said).values()} == {2, 3}
