"""Open the log's database, and bring its schema up to this program's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from . import paths, sqlite
from .errors import (
    StoreCorruptError,
    StoreError,
    StoreMissingError,
    StorePlaceError,
    StoreVersionError,
    UsageError,
)
from .tables import metadata

# The revision that this program reads and writes: the newest in migrations/versions (a test compares them).
HEAD = "0004"
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
            backend = url.drivername.partition("+")[0]
        except (ArgumentError, ValueError) as error:
            raise StorePlaceError(
                f"the log's URL {_without_secret(given)!r} cannot be read; write it like "
                "postgresql://user@host/database"
            ) from error
        if backend == "sqlite":
            return cls._file(url.database or ":memory:", patience)
        if backend not in ("postgresql", "postgres"):
            raise StorePlaceError(
                f"the log {_without_secret(given)!r} cannot be opened: a log lives in SQLite (a path) or in "
                "PostgreSQL (postgresql://…)"
            )
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

    @property
    def where(self) -> str:
        """What `of` reads back as this place: the path, or the URL with its password. Not fit to print."""
        return str(self.path or self.url)

    def writing_engine(self) -> Engine:
        """An engine for the one writer; makes the file when there is none."""
        if self.path is None:
            return self._server_engine(reading=False)
        sqlite.prepare_file(self.path)
        return sqlite.writing_engine(self.path, self.patience)

    def reading_engine(self) -> Engine:
        """An engine for readers. Raises StoreMissingError when there is no log."""
        if self.path is None:
            return self._server_engine(reading=True)
        return sqlite.reading_engine(self.path, self.patience)

    def hurry(self, connection: Connection) -> None:
        """Make a connection that answers wait for give up on a server that says nothing."""
        if self.path is None:
            from . import postgres

            postgres.hurry(connection, self.patience)

    def _server_engine(self, reading: bool) -> Engine:
        from . import postgres  # its dialect is not for those who need no server

        return postgres.engine(make_url(self.url), self.patience, reading=reading)

    @contextlib.contextmanager
    def plainly(self) -> Iterator[None]:
        """Tell the database's errors as StoreError."""
        if self.path is not None:
            with sqlite.told_plainly(self.path, self.patience):
                yield
            return
        from . import postgres

        with postgres.told_plainly(self.name, self.patience):
            yield

    def require_schema(self, found: str | None) -> None:
        """Raise StoreMissingError for a server that holds no log yet: reading makes none."""
        if self.path is None and found is None:
            raise StoreMissingError(
                f"the database {self.name} holds no log yet: the first answer makes it; another one is named "
                "with --log or PILOTHOUSE_LOG"
            )

    def size(self, connection: Connection) -> int:
        """Bytes that the log takes."""
        if self.path is not None:
            return sqlite.size(self.path)
        from . import postgres

        return postgres.size(connection)


def _without_secret(url: str) -> str:
    """A URL that may not even be one, fit for an error message."""
    return re.sub(r"://[^/]*@", "://***@", url)


def _dialect(connection: Connection) -> Any:
    """The module that speaks the connection's own SQL."""
    if connection.dialect.name == "sqlite":
        return sqlite
    from . import postgres

    return postgres


def matching(connection: Connection, query: str) -> Any:
    """A condition on `content`: its text holds every word of `query`; a last word ending in `*` may go on.

    Raises UsageError for a query without a word.
    """
    return _dialect(connection).matching(_words(query))


def newest_holding(connection: Connection, query: str, most: int) -> list[int]:
    """Ids in `content` of the newest `most` texts that `matching` finds, the newest first; raises as that."""
    return list(connection.scalars(_dialect(connection).newest_holding(_words(query), most)))


def _words(query: str) -> str:
    query = query.replace("\0", " ")  # no word holds a NUL, and databases end a text at one
    if not query.strip():
        raise UsageError("the text to search for is empty; give a word")
    return query


def scrub(connection: Connection) -> bool:
    """After texts were erased, take their old copies away; whether surely none is left."""
    return bool(_dialect(connection).scrub(connection))


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
            "name another place with --log or PILOTHOUSE_LOG (on a server, another database or schema)"
        )
    return None


@contextlib.contextmanager
def disposed_on_failure(engine: Engine) -> Iterator[None]:
    """Let go of an engine whose log turns out not to be one."""
    try:
        yield
    except BaseException:
        engine.dispose()
        raise


def bring_up(place: Place) -> None:
    """`ensure_schema` for a reader, which keeps no writing engine."""
    engine = place.writing_engine()
    try:
        ensure_schema(place, engine)
    finally:
        engine.dispose()


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
        if connection.dialect.name != "sqlite":
            with connection.begin():
                _dialect(connection).lock_schema(connection)
                yield connection
            return
        driver = connection.connection.dbapi_connection
        assert driver is not None
        sqlite.foreign_keys(driver, checked=False)
        with connection.begin():
            yield connection
            if not sqlite.check_foreign_keys(connection):
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
    own = _dialect(connection)
    own.strip(connection)
    command.upgrade(config, "head")
    own.furnish(connection)
