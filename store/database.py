"""Open the log's database, and bring its schema up to this program's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from . import paths, sqlite
from .errors import StoreCorruptError, StoreError, StorePlaceError, StoreVersionError
from .tables import content, metadata

# The revision that this program reads and writes: the newest in migrations/versions (a test compares them).
HEAD = "0001"
VERSION_TABLE = "pilothouse_schema"
MIGRATIONS = Path(__file__).parent / "migrations"
PATIENCE = 10.0  # seconds to wait for another process's write lock


@dataclass(frozen=True)
class Place:
    """Where a log lives: a file for SQLite, else the URL of another database. `name` is safe to print."""

    path: Path | None
    url: str
    patience: float = PATIENCE

    @classmethod
    def of(cls, where: str | Path | None = None, patience: float = PATIENCE) -> Place:
        """Read a path or URL; None means PILOTHOUSE_LOG, or the data folder's `log.db`.

        Raises StorePlaceError for an unreadable URL and for an in-memory database, which no second reader
        could open.
        """
        given = str(where) if where is not None else paths.log_place()
        if "://" not in given:
            return cls._file(given, patience)
        try:
            url = make_url(given)
        except ArgumentError as error:
            raise StorePlaceError(
                f"the log's URL {given!r} cannot be read; write it like postgresql://…"
            ) from error
        if url.get_backend_name() == "sqlite":
            return cls._file(url.database or ":memory:", patience)
        return cls(None, given, patience)

    @classmethod
    def _file(cls, name: str, patience: float) -> Place:
        if name in ("", ":memory:"):
            raise StorePlaceError("the log cannot live in memory: readers are other processes; name a file")
        path = Path(name).expanduser().absolute()
        return cls(path, f"sqlite:///{path}", patience)

    @property
    def name(self) -> str:
        """The path, or the URL without its password."""
        return str(self.path or make_url(self.url).render_as_string(hide_password=True))

    def writing_engine(self) -> Engine:
        """An engine for the one writer; makes the file when there is none."""
        if self.path is None:
            return self._server_engine()
        sqlite.prepare_file(self.path)
        return sqlite.writing_engine(self.path, self.patience)

    def reading_engine(self) -> Engine:
        """An engine for readers. Raises StoreMissingError when there is no log."""
        if self.path is None:
            return self._server_engine()
        return sqlite.reading_engine(self.path, self.patience)

    def _server_engine(self) -> Engine:
        try:
            return create_engine(self.url)
        except (SQLAlchemyError, ImportError) as error:
            raise StorePlaceError(
                f"the log {self.name} cannot be opened: {error}; install its driver"
            ) from error

    @contextlib.contextmanager
    def plainly(self) -> Iterator[None]:
        """Tell the database's errors as StoreError."""
        if self.path is not None:
            with sqlite.told_plainly(self.path, self.patience):
                yield
            return
        try:
            yield
        except DBAPIError as error:
            raise StoreError(f"the log {self.name} failed: {error.orig}; try again") from error


def matching(connection: Connection, query: str) -> Any:
    """A condition on `content`: its text matches `query` (every word on SQLite, the substring elsewhere)."""
    if connection.dialect.name == "sqlite":
        return sqlite.matching(query)
    return content.c.text.icontains(query, autoescape=True)


def revision(connection: Connection) -> str | None:
    """The schema revision of the log, None for an empty database.

    Raises StoreCorruptError for a database that holds something else.
    """
    tables = inspect(connection).get_table_names()
    if VERSION_TABLE in tables:
        return str(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar())
    if tables:
        raise StoreCorruptError(
            f"{connection.engine.url.database} is a database, but no log: it holds the table {tables[0]!r}; "
            "name another place with --log or PILOTHOUSE_LOG"
        )
    return None


def ensure_schema(place: Place, engine: Engine, migrations: Path = MIGRATIONS) -> Path | None:
    """Make the schema, or bring an older one up; return the copy kept of an older log, if one was made.

    One process migrates, the others wait for its write lock. `engine` is a writing engine.

    Raises StoreVersionError for a log newer than this program.
    """
    with place.plainly():
        with engine.connect() as connection:
            if revision(connection) == HEAD and migrations == MIGRATIONS:
                return None
        return _migrate(place, engine, migrations)


def _migrate(place: Place, engine: Engine, migrations: Path) -> Path | None:
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    scripts = ScriptDirectory(str(migrations))
    head = scripts.get_current_head()
    with _migrating(engine) as connection:
        found = revision(connection)  # asked again, now that nobody else can change it
        if found == head:
            return None
        try:
            scripts.get_revision(found or "base")
        except CommandError as error:
            raise StoreVersionError(
                f"the log {place.name} has schema revision {found!r}, newer than {head!r}, the newest that "
                "this pilothouse knows; update it, or name another log with --log or PILOTHOUSE_LOG"
            ) from error
        copy = _keep_copy(place, found) if found else None
        _upgrade(connection, migrations)
        return copy


@contextlib.contextmanager
def _migrating(engine: Engine) -> Iterator[Connection]:
    """A transaction that holds the write lock, with foreign keys unchecked: tables are copied and renamed."""
    with engine.connect() as connection:
        on_sqlite = connection.dialect.name == "sqlite"
        driver = connection.connection.dbapi_connection
        assert driver is not None
        if on_sqlite:
            sqlite.foreign_keys(driver, checked=False)
        with connection.begin():
            yield connection
            if on_sqlite and not sqlite.check_foreign_keys(connection):
                raise StoreError("the migration would break references between tables; nothing was changed")


def _keep_copy(place: Place, found: str) -> Path | None:
    if place.path is None:
        return None
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    copy = place.path.with_name(f"{place.path.stem}.before-{found}-{stamp}{place.path.suffix}")
    sqlite.backup(place.path, copy)
    return copy


def _upgrade(connection: Connection, migrations: Path) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes |= {"connection": connection, "metadata": metadata, "version_table": VERSION_TABLE}
    on_sqlite = connection.dialect.name == "sqlite"
    if on_sqlite:
        sqlite.strip(connection)
    command.upgrade(config, "head")
    if on_sqlite:
        sqlite.furnish(connection)
