"""Journals of finished trials: whole after every kill, shared by several writers, as fast when long as when short."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
from pathlib import Path

import pytest

from forwardinf.studies.journal import Journal, Trial


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "studies" / "trials.jsonl")


def trial(n: int, seed: int = 0, prompt: str = "short") -> Trial:
    return {"n": n, "settings": {"seed": seed, "prompt": prompt}}


def test_settings_are_written_once_and_come_with_every_trial(journal: Journal):
    trials = [trial(n, seed=n % 2, prompt="a long one") for n in range(6)]
    for one in trials:
        journal.append(one)
    assert list(journal.trials()) == trials
    assert list(journal.trials_with(trials[1]["settings"])) == trials[1::2]
    assert journal.path.read_text().count("a long one") == 2


def test_whatever_byte_a_kill_cuts_the_file_at_whole_lines_stay_and_the_next_trial_is_added(tmp_path: Path):
    whole = Journal(tmp_path / "whole.jsonl")
    trials = [trial(0), trial(1, seed=1), trial(2, prompt="“Ä”")]
    for one in trials:
        whole.append(one)
    written = whole.path.read_bytes()
    for cut in range(len(written)):
        torn = Journal(tmp_path / "torn.jsonl")
        torn.path.write_bytes(written[:cut])
        left = list(torn.trials())
        assert left == trials[: len(left)]
        assert len(left) >= sum(
            b'"n"' in line for line in written[:cut].splitlines(keepends=True) if line[-1:] == b"\n"
        )
        torn.append(trial(9))
        assert list(torn.trials()) == [*left, trial(9)]
        torn.append(trial(1, seed=1))
        assert list(torn.trials()) == [*left, trial(9), trial(1, seed=1)]


def test_an_open_journal_goes_on_after_a_line_that_was_cut_short(journal: Journal):
    journal.append(trial(1))
    with journal.path.open("ab") as file:
        file.write(b'{"n": 2, "half')
    journal.append(trial(2))
    journal.append(trial(3))
    assert list(journal.trials()) == [trial(1), trial(2), trial(3)]


def _append(path: Path, writer: int, count: int) -> None:
    journal = Journal(path)
    for n in range(count):
        journal.append(trial(n, seed=writer * 100 + n % 3))


def test_two_writers_lose_none_of_each_others_trials(journal: Journal):
    spawning = multiprocessing.get_context("spawn")
    writers = [spawning.Process(target=_append, args=(journal.path, writer, 60)) for writer in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = list(journal.trials())
    for writer in range(2):
        assert [t for t in found if t["settings"]["seed"] // 100 == writer] == [
            trial(n, seed=writer * 100 + n % 3) for n in range(60)
        ]
    assert len(found) == 120
    assert len(journal.path.read_bytes().splitlines()) == 120 + 6


def test_nobody_else_writes_between_reading_and_writing(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    def locked(fd: int) -> None:
        with journal.path.open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        checked.append(fd)

    checked: list[int] = []
    journal.append(trial(1))
    monkeypatch.setattr("os.fsync", locked)
    journal.append(trial(2))
    assert len(checked) == 1


def test_writers_of_the_same_settings_see_each_others_and_write_them_once(journal: Journal):
    other = Journal(journal.path)
    for n in range(4):
        (journal, other)[n % 2].append(trial(n))
    assert list(journal.trials()) == [trial(n) for n in range(4)]
    assert journal.path.read_text().count('"key"') == 1


def test_settings_that_json_writes_otherwise_are_the_same_settings(journal: Journal):
    settings = {"channels": (32, 48), "seed": 0}
    for n in range(2):
        Journal(journal.path).append({"n": n, "settings": settings})
    assert [t["n"] for t in journal.trials_with(settings)] == [0, 1]
    assert journal.path.read_text().count("channels") == 1


@pytest.mark.parametrize("replacement", ["", '{"n": 0, "settings": "absent"}\n' * 50])
def test_a_file_that_was_replaced_is_read_again(journal: Journal, tmp_path: Path, replacement: str):
    journal.append(trial(1))
    (tmp_path / "new").write_text(replacement)
    (tmp_path / "new").rename(journal.path)
    journal.append(trial(2))
    assert list(journal.trials()) == [trial(2)]


def test_a_key_stands_for_the_settings_last_written_under_it(journal: Journal):
    journal.append(trial(1))
    changed = journal.path.read_text().replace("short", "migrated")
    journal.path.write_text(changed)
    reopened = Journal(journal.path)
    reopened.append(trial(2))
    assert list(reopened.trials()) == [trial(1, prompt="migrated"), trial(2)]


def test_an_append_does_not_read_what_was_read_before(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    read = 0
    opened = Path.open

    def counting(path: Path, *mode: str) -> object:
        file = opened(path, *mode)
        plain = file.read

        def counted(*size: int) -> bytes:
            nonlocal read
            found = plain(*size)
            read += len(found)
            return found

        return _Wrapped(file, counted)

    monkeypatch.setattr(Path, "open", counting)
    for n in range(100):
        journal.append(trial(n, prompt="long" * 50))
    monkeypatch.undo()
    assert read == 0
    assert len(list(journal.trials())) == 100


class _Wrapped:
    """A file with another `read`."""

    def __init__(self, file: object, read: object) -> None:
        self.file, self.read = file, read

    def __enter__(self) -> _Wrapped:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)


def test_lines_that_are_no_trial_are_passed_over(journal: Journal):
    journal.append(trial(1))
    with journal.path.open("ab") as file:
        file.write(b"[1, 2]\n\nnull\n" + json.dumps({"n": 5, "settings": {"seed": 0}}).encode() + b"\n")
    journal.append(trial(2))
    assert list(journal.trials()) == [trial(1), trial(2)]
