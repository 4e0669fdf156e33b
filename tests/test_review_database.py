"""The database of cases: nothing acknowledged is lost, other versions and full disks are told; also in PostgreSQL."""

from __future__ import annotations

import io
import os
import random
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from made_cases import CASE, made_case, opened
from PIL import Image
from sqlalchemy import event, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import Select
from test_store import in_a_child

from forwardinf.errors import StorageFailed
from forwardinf.review import database as review_database
from forwardinf.review import overview
from forwardinf.review.cases import Given, add_pictures, list_cases, load_case, pictures_of
from forwardinf.review.database import Database
from forwardinf.review.decisions import decide, decisions_of
from forwardinf.review.migrations.versions import r0001_cases, r0002_timestamps
from forwardinf.review.overview import Wanted
from forwardinf.review.schema import metadata


def decide_on_first(database: Database, reason: str = "r") -> str:
    case = load_case(database, CASE)
    return decide(database, case, pictures_of(database, case)[0], "unsure", reason=reason, author="Ada").hash


# Killed while writing


def steps_of(monkeypatch: pytest.MonkeyPatch, strike: Callable[[int], object]) -> None:
    """Let `strike` be called with the number of each step of SQLite's machine from here on; only in a child."""
    count, engine_of = [0], review_database._engine

    def watched_engine(url: object):
        engine = engine_of(url)

        def step() -> None:
            count[0] += 1
            strike(count[0])

        event.listen(engine, "connect", lambda connection, _: connection.set_progress_handler(step, 1))
        return engine

    monkeypatch.setattr(review_database, "_engine", watched_engine)


def kill_after(fatal: int, step: int) -> None:
    if step > fatal:
        os.kill(os.getpid(), signal.SIGKILL)


def test_no_acknowledged_decision_is_lost_whenever_the_writer_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made_case(opened(tmp_path))
    counted, acknowledged = tmp_path / "steps", tmp_path / "acknowledged"

    def decide_thrice(strike: Callable[[int], object]) -> None:
        steps_of(monkeypatch, strike)
        database = opened(tmp_path)
        with acknowledged.open("a") as told:
            for _ in range(3):
                print(decide_on_first(database), file=told, flush=True)

    assert in_a_child(lambda: decide_thrice(lambda number: counted.write_text(str(number)))) == 0
    steps = int(counted.read_text())
    assert steps > 100
    draw, kills = random.Random(0), 15
    for _ in range(kills):
        fatal = draw.randrange(steps)
        status = in_a_child(partial(decide_thrice, partial(kill_after, fatal)))
        assert status == -signal.SIGKILL
        database = opened(tmp_path)
        made = [decision.hash for decision in decisions_of(database, load_case(database, CASE))]  # the chain is whole
        told = acknowledged.read_text().split()
        assert [one for one in made if one in told] == told
    assert 3 < len(told) < 3 + 3 * kills


def test_writers_take_turns(tmp_path: Path):
    made_case(opened(tmp_path))
    children = []
    for number in range(3):
        child = os.fork()
        if not child:
            try:
                database = opened(tmp_path)
                for _ in range(5):
                    decide_on_first(database, f"by {number}")
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    database = opened(tmp_path)
    assert len(decisions_of(database, load_case(database, CASE))) == 15


# What a database cannot do


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path):
    database = opened(tmp_path)
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageFailed, match=r"newer version of Forward-INF \(database revision 9999\)"):
        opened(tmp_path)


def test_a_file_that_is_no_database_is_refused_and_stays(tmp_path: Path):
    (tmp_path / "review.sqlite").write_text("notes of a reviewer, no database at all" * 100)
    with pytest.raises(StorageFailed, match=r"“review.sqlite” cannot be .*not a database"):
        opened(tmp_path)
    assert (tmp_path / "review.sqlite").read_text().startswith("notes")


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps = review_database.ScriptDirectory.from_config

    def patched(config: object):
        scripts = steps(config)
        scripts.get_revision("0001").module.SQLITE = "CREATE NOTHING {event} {message}"
        return scripts

    monkeypatch.setattr(review_database.ScriptDirectory, "from_config", patched)
    with pytest.raises(StorageFailed, match="syntax error"):
        opened(tmp_path)
    monkeypatch.undo()
    assert list_cases(opened(tmp_path)) == []


def test_a_read_only_database_is_told(tmp_path: Path):
    made_case(opened(tmp_path))
    with pytest.raises(StorageFailed, match=r"“review.sqlite” cannot be written: .*readonly"):
        decide_on_first(Database.open(f"sqlite:///file:{tmp_path}/review.sqlite?mode=ro&uri=true"))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot be made"):
        Database.open(tmp_path / "file" / "review.sqlite")


def noise() -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("L", (256, 256), random.Random(0).randbytes(256 * 256)).save(buffer, format="PNG")
    return buffer.getvalue()


def decide_until_full(database: Database) -> None:
    for number in range(1000):
        decide_on_first(database, "x" * 2000 + str(number))


def test_on_a_full_disk_nothing_is_half_written(tmp_path: Path):
    database = opened(tmp_path)
    case, _ = made_case(database)

    @event.listens_for(database.engine, "checkout")
    def fill(connection: object, record: object, proxy: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StorageFailed, match="full"):
        decide_until_full(database)
    made = decisions_of(database, case)
    with pytest.raises(StorageFailed, match="full"):
        add_pictures(database, "another", [Given("large.png", noise(), "")])
    event.remove(database.engine, "checkout", fill)
    assert decisions_of(database, case) == made
    assert [one.name for one in list_cases(database)] == [CASE]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("no url", "URL cannot be read"),
        ("nodb://a/b", "driver"),
        ("postgresql+asyncpg://a:secret@localhost/b", "driver"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str, why: str):
    with pytest.raises(StorageFailed, match=why) as refused:
        Database.open(url)
    assert "secret" not in str(refused.value)


# Schema


def test_migrations_lead_to_the_tables_that_statements_are_made_for(tmp_path: Path):
    with opened(tmp_path).reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_what_is_written_is_on_disk(tmp_path: Path):
    with opened(tmp_path).reading() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


def test_migrations_and_queries_are_postgresql_too(tmp_path: Path):
    written = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": written, "target_metadata": metadata}
    )
    with Operations.context(context):
        for migration in (r0001_cases, r0002_timestamps):
            migration.upgrade()
    for table in metadata.tables:
        assert f"CREATE TABLE {table} (" in written.getvalue()
    assert "BEFORE UPDATE OR DELETE ON decisions" in written.getvalue()
    assert "BEFORE TRUNCATE ON decisions" in written.getvalue()
    case, _ = made_case(opened(tmp_path))
    wanted = Wanted("undecided", "unsure", "100%", "score", "Ada")
    query = overview._query(case, wanted)
    assert isinstance(query, Select)
    compiled = str(query.compile(dialect=postgresql.dialect()))
    assert "ILIKE" in compiled
    assert "NOT (EXISTS" in compiled
