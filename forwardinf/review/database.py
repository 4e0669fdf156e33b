"""Where cases are kept: a SQLite file in WAL mode, or any database that SQLAlchemy has a URL for.

A transaction that was committed is on disk (`synchronous=FULL`), and writers of one file take turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from ..errors import StorageFailed

FILE_NAME = "review.sqlite"
PATIENCE = 30.0  # seconds that a writer waits for another one
NEWER = "The cases in {name} were kept by a newer version of Forward-INF (database revision {revision}). Update it."


@dataclass(frozen=True)
class Database:
    """A database of cases that is of this version."""

    engine: Engine
    name: str  # for messages: the file's name, or the URL without its password

    @classmethod
    def open(cls, where: Path | str) -> Database:
        """The database in a file or at a URL, made or brought up to date; raises StorageFailed saying why not."""
        url = _url_of(where)
        name = f"“{Path(url.database or '').name}”" if url.get_backend_name() == "sqlite" else url.render_as_string()
        try:
            if isinstance(where, Path):
                where.parent.mkdir(parents=True, exist_ok=True)
            database = cls(_engine(url), name)
        except (ImportError, NoSuchModuleError) as error:
            raise StorageFailed(f"The database {name} needs a driver that is not installed ({error}).") from error
        except OSError as error:
            raise StorageFailed(f"The folder of {name} cannot be made: {error.strerror}. Name another one.") from error
        with database.writing() as connection:
            migrate(connection, name)
        return database

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees the database as it is when the first statement is run."""
        with self._told("read"), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: when the block ends it is on disk, and where the block fails nothing of it is."""
        with self._told("written"), self.engine.connect() as plain:
            connection = plain.execution_options(forwardinf_writes=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            why = " ".join(str(error.orig).split())
            advice = "Make room or change its permissions, or name another one by FORWARDINF_REVIEW_URL."
            raise StorageFailed(f"The cases in {self.name} cannot be {done}: {why}. {advice}") from error


def migrate(connection: Connection, name: str) -> None:
    """Bring a database up to date within a transaction; raises StorageFailed where a newer version kept it."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    scripts, revision = (
        ScriptDirectory.from_config(config),
        MigrationContext.configure(connection).get_current_revision(),
    )
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise StorageFailed(NEWER.format(name=name, revision=revision))
    if revision != scripts.get_current_head():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _url_of(where: Path | str) -> URL:
    if isinstance(where, Path):
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise StorageFailed(
            "The database's URL cannot be read. It is like sqlite:////folder/review.sqlite or "
            "postgresql+psycopg://user@host/cases."
        ) from error
    return url


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url)
    engine = create_engine(url, connect_args={"timeout": PATIENCE})

    @event.listens_for(engine, "connect")
    def configure(connection: object, record: object) -> None:
        """Take transactions out of the hands of Python's sqlite3, which begins them late."""
        connection.isolation_level = None  # type: ignore[attr-defined]
        cursor = connection.cursor()  # type: ignore[attr-defined]
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("forwardinf_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def now() -> str:
    """The time in UTC to the second, as it is kept."""
    return datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def storable(text: str) -> str:
    """Text that every database and UTF-8 can hold: file names may have bytes that are not text."""
    return text.encode("utf-8", "replace").decode().replace("\0", " ").strip()
