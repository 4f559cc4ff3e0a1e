"""Everything that only SQLite has: connections and pragmas, its error codes told plainly, full-text search,
seals.

No other file of the product holds SQL of SQLite's own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from .errors import (
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreMissingError,
    StorePlaceError,
    StoreReadOnlyError,
)

# The full-text index reads its text from `content`; it and the seals are made anew after every migration.
_INDEX = "CREATE VIRTUAL TABLE content_words USING fts5(text, content='content', content_rowid='id')"
_TRIGGERS = {
    "content_added": """AFTER INSERT ON content BEGIN
        INSERT INTO content_words(rowid, text) VALUES (new.id, new.text); END""",
    "content_removed": """AFTER DELETE ON content BEGIN
        INSERT INTO content_words(content_words, rowid, text) VALUES ('delete', old.id, old.text); END""",
    "events_keep": """BEFORE UPDATE ON events BEGIN
        SELECT RAISE(ABORT, 'the log is append-only'); END""",
    # retention writes down how far it takes rows away, then does so
    "events_stay": """BEFORE DELETE ON events
        WHEN old.sequence > coalesce((SELECT cast(value AS integer) FROM meta WHERE key = 'pruned'), 0) BEGIN
        SELECT RAISE(ABORT, 'the log is append-only'); END""",
}

_MERGED_PAGES = 500


def prepare_file(path: Path) -> None:
    """Make the log's folder and an empty file that only its owner may read; an existing file stays as it is.

    Raises StorePlaceError when `path` cannot be a file, StoreReadOnlyError when it may not be written.
    """
    refuse_folder(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except (NotADirectoryError, FileExistsError) as error:
        raise StorePlaceError(
            f"the log {path} cannot be made: {error.filename} is a file where a folder is needed; "
            "name another place with --log or PILOTHOUSE_LOG"
        ) from error
    except OSError as error:
        raise _os_error(path, error) from error


def refuse_folder(path: Path) -> None:
    """Raise StorePlaceError for a folder."""
    if path.is_dir():
        raise StorePlaceError(f"the log {path} is a folder; name a file, for example {path / 'log.db'}")


def _os_error(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _read_only(path)
    if error.errno == errno.ENOSPC:
        return _full(path)
    return StorePlaceError(
        f"the log {path} cannot be opened: {error.strerror}; name another place with --log or PILOTHOUSE_LOG"
    )


def _read_only(path: Path) -> StoreReadOnlyError:
    return StoreReadOnlyError(
        f"the log {path} cannot be written: the file, its folder or its disk is read-only; make it writable, "
        "or name another log with --log or PILOTHOUSE_LOG"
    )


def _full(path: Path) -> StoreFullError:
    return StoreFullError(f"the disk that holds the log {path} is full; free some space and try again")


def writing_engine(path: Path, patience: float) -> Engine:
    """An engine whose transactions take the write lock at once, waiting `patience` seconds for it."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, connect_args={"timeout": patience})

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # an acknowledged row survives a power cut
        connection.execute("PRAGMA secure_delete = ON")  # an erased text is overwritten, not only unlinked
        connection.execute("PRAGMA cache_size = -65536")  # 64 MB: the indexes of a long log are hit at random
        connection.execute("PRAGMA wal_autocheckpoint = 4000")  # 16 MB: fewer, larger checkpoints
        _ask_for_wal(connection, patience)

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _ask_for_wal(connection: sqlite3.Connection, patience: float) -> None:
    """Switch to write-ahead logging. Two processes that switch at once may be told 'locked' without a
    wait.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def reading_engine(path: Path, patience: float) -> Engine:
    """An engine that cannot write; each transaction sees one unchanging state of the log.

    Raises StoreMissingError when there is no such file.
    """
    refuse_folder(path)
    if not path.exists():
        raise StoreMissingError(
            f"the log {path} does not exist yet: the first answer makes it; another one is named with "
            "--log or PILOTHOUSE_LOG"
        )
    uri = f"sqlite:///file:{_quoted(path)}?mode=ro{_frozen(path)}&uri=true"
    engine = create_engine(uri, poolclass=NullPool, connect_args={"timeout": patience})

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _frozen(path: Path) -> str:
    """A read-only folder cannot hold the shared-memory file that WAL readers need; without writers, none is
    needed.
    """
    wal = path.with_name(path.name + "-wal")
    idle = not wal.exists() or wal.stat().st_size == 0
    return "&immutable=1" if idle and not os.access(path.parent, os.W_OK) else ""


def journal_mode(connection: Connection) -> str:
    """The journal mode in force: `wal`, or what SQLite kept where it refused (a network disk, for
    example).
    """
    return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())


def furnish(connection: Connection) -> None:
    """Make the search index and the triggers that keep it and refuse changes to `events`."""
    connection.exec_driver_sql("DROP TABLE IF EXISTS content_words")
    connection.exec_driver_sql(_INDEX)
    for name, body in _TRIGGERS.items():
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {body}")
    connection.exec_driver_sql("INSERT INTO content_words(content_words) VALUES ('rebuild')")


def strip(connection: Connection) -> None:
    """Take the triggers off, for a migration."""
    for name in _TRIGGERS:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")


def foreign_keys(driver: Any, checked: bool) -> None:
    """Switch the check of references on a raw connection; inside a transaction SQLite ignores this."""
    driver.execute(f"PRAGMA foreign_keys = {'ON' if checked else 'OFF'}")


def check_foreign_keys(connection: Connection) -> bool:
    """Whether every reference has its row; a migration runs with the check off and asks at its end."""
    return connection.exec_driver_sql("PRAGMA foreign_key_check").first() is None


def backup(path: Path, target: Path) -> None:
    """Copy the log as committed into `target`, which must not exist. Readers and a waiting writer do not
    mind.
    """
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))
    target.chmod(0o600)


def matching(query: str) -> Any:
    """A condition on `content.id`: the text holds every word of `query`; a last word ending in `*` may go
    on.
    """
    clause = text("content.id IN (SELECT rowid FROM content_words WHERE content_words MATCH :terms)")
    return clause.bindparams(terms=_terms(query))


def newest_holding(query: str, most: int) -> Any:
    """A query for the ids of the newest `most` texts that `matching` would find, the newest first.

    The index is read from its end, and no further than it takes: a word that every text holds costs no more
    than another.
    """
    found = "SELECT rowid FROM content_words WHERE content_words MATCH :terms ORDER BY rowid DESC LIMIT :most"
    return text(found).bindparams(terms=_terms(query), most=most)


def _terms(query: str) -> str:
    """Each word quoted, so that nothing in a query is an operator of the search language."""
    return " ".join(
        '"' + word.rstrip("*").replace('"', '""') + '"' + ("*" if word.endswith("*") else "")
        for word in query.split()
    )


def scrub(connection: Connection) -> bool:
    """After texts were erased: rewrite the search index and empty the write-ahead log, outside a transaction.

    The index is rewritten in small steps, so that writers wait for none of them long. Returns whether nothing
    is left; a reader at work keeps the write-ahead log from being emptied.
    """
    driver = connection.connection.dbapi_connection
    assert driver is not None
    step = -_MERGED_PAGES  # negative: begin with every segment of the index; positive: go on
    before = -2
    while driver.total_changes - before >= 2:
        before = driver.total_changes
        driver.execute("INSERT INTO content_words(content_words, rank) VALUES ('merge', ?)", (step,))
        step = _MERGED_PAGES
    driver.execute("PRAGMA busy_timeout = 500")  # a reader may stay for minutes; do not wait for it
    busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def size(path: Path) -> int:
    """Bytes on disk, write-ahead log included."""
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


@contextlib.contextmanager
def told_plainly(path: Path, patience: float) -> Iterator[None]:
    """Turn SQLite's errors into a StoreError with one sentence that says what to do."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise _explained(error, path, patience) from error


def _explained(error: DBAPIError | sqlite3.Error, path: Path, patience: float) -> StoreError:
    """The StoreError that says what SQLite's error means for the user."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = str(getattr(cause, "sqlite_errorname", ""))
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreLockedError(
            f"the log {path} is locked: another process has been writing to it for more than {patience:g} s; "
            "wait for it or end it, then try again"
        )
    if code.startswith(("SQLITE_READONLY", "SQLITE_PERM")):
        return _read_only(path)
    if code.startswith("SQLITE_FULL"):
        return _full(path)
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreCorruptError(
            f"the log {path} is damaged or is no log ({cause}); move it away or restore a copy, "
            "then try again"
        )
    if code.startswith("SQLITE_CANTOPEN"):
        return _read_only(path) if path.exists() else StorePlaceError(f"the log {path} cannot be opened")
    return StoreError(f"the log {path} failed: {cause}; try again, and run `pilothouse log verify`")
