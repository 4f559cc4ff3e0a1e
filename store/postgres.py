"""Everything that only PostgreSQL has: connections, its error codes told plainly, full-text search, seals.

No other file of the product holds SQL of PostgreSQL's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, literal, select, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from .errors import (
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StorePlaceError,
    StoreReadOnlyError,
    StoreUnreachableError,
)
from .tables import content, events

NAMES = ("postgresql", "postgres")
READING_SILENCE = 60.0  # seconds; the longest that a server of a large log thinks before its first row
_SCHEMA_LOCK = 0x70696C6F74  # one process migrates, the others wait; any number will do, as long as all agree
# Words are runs of letters and digits, as in SQLite's index; a tsvector holds at most 1 MB, so the rest of a
# very long text is not searched.
_FURNITURE = (
    """CREATE OR REPLACE FUNCTION pilothouse_words(body text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT to_tsvector('simple'::regconfig,
                             regexp_replace(left(body, 100000), '[^[:alnum:]]+', ' ', 'g')) $$""",
    "CREATE INDEX content_words ON content USING gin (pilothouse_words(text))",
    """CREATE OR REPLACE FUNCTION pilothouse_keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND OLD.sequence <= (SELECT value::bigint FROM meta WHERE key = 'pruned') THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'the log is append-only';
    END $$""",
    """CREATE TRIGGER events_keep BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION pilothouse_keep()""",
    """CREATE TRIGGER events_stay BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION pilothouse_keep()""",
)
_STRIP = (
    "DROP TRIGGER IF EXISTS events_keep ON events",
    "DROP TRIGGER IF EXISTS events_stay ON events",
    "DROP INDEX IF EXISTS content_words",
)
for _index in events.indexes:
    if (_where := _index.dialect_options["sqlite"]["where"]) is not None:
        _index.dialect_options["postgresql"]["where"] = _where


def engine(url: URL, patience: float, *, reading: bool) -> Engine:
    """An engine; a reading one cannot write, and each of its transactions sees one state of the log.

    Raises StorePlaceError where the driver is not installed.
    """
    named = url.set(drivername="postgresql+psycopg") if url.drivername in NAMES else url
    milliseconds = int(patience * 1000)
    asked = [str(url.query.get("options", "")), f"-c lock_timeout={milliseconds}", "-c synchronous_commit=on"]
    arguments: dict[str, Any] = {
        "options": " ".join(filter(None, asked)),
        "connect_timeout": max(2, int(patience)),
        "application_name": "pilothouse",
        # a cut network is noticed within the patience, not when the kernel gives up, many minutes later
        "tcp_user_timeout": milliseconds,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
    }
    try:
        made = create_engine(
            named.difference_update_query(["options"]), connect_args=arguments, pool_pre_ping=True
        )
    except (SQLAlchemyError, ImportError) as error:
        raise StorePlaceError(
            f"the log {url.render_as_string(hide_password=True)} cannot be opened: {error}; install the "
            "driver: pip install 'pilothouse[postgres]'"
        ) from error
    event.listen(made, "do_connect", partial(_connect, silence=READING_SILENCE if reading else None))
    if not reading:
        return made
    return made.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _connect(dialect: Any, record: Any, words: Any, options: Any, *, silence: float | None) -> Any:
    from .silence import ImpatientConnection

    made = ImpatientConnection.connect(*words, **options)
    made.silence = silence
    return made


def hurry(connection: Connection, patience: float) -> None:
    """Give up on a server that says nothing for twice the patience (which it may spend on a lock)."""
    driver: Any = connection.connection.driver_connection
    driver.silence = 2 * patience


def lock_schema(connection: Connection) -> None:
    """Wait until no other process migrates; released with the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})


def furnish(connection: Connection) -> None:
    """Make the search index and the triggers that refuse changes to `events`."""
    for statement in _FURNITURE:
        connection.exec_driver_sql(statement)


def strip(connection: Connection) -> None:
    """Take the triggers and the search index off, for a migration."""
    if connection.execute(text("SELECT to_regclass('events')")).scalar() is not None:
        for statement in _STRIP:
            connection.exec_driver_sql(statement)


def matching(query: str) -> Any:
    """A condition on `content`: the text holds every word of `query`; a last word ending in `*` may go on."""
    words = func.pilothouse_words(content.c.text, type_=TSVECTOR)
    return words.bool_op("@@")(func.to_tsquery("simple", literal(_tsquery(query))))


def newest_holding(query: str, most: int) -> Any:
    """A query for the ids of the newest `most` texts that `matching` would find, the newest first."""
    return select(content.c.id).where(matching(query)).order_by(content.c.id.desc()).limit(most)


def _tsquery(query: str) -> str:
    """Runs of letters and digits, each quoted, so that nothing in a query is an operator; a run of several
    within one word stands in that order.
    """
    phrases = []
    for word in query.split():
        runs = "".join(char if char.isalnum() else " " for char in word).split()
        terms = [f"'{run}'" for run in runs]
        if terms and word.endswith("*"):
            terms[-1] += ":*"
        if terms:
            phrases.append(f"({' <-> '.join(terms)})")
    return " & ".join(phrases)


def scrub(connection: Connection) -> bool:
    """After texts were erased: let the freed rows be overwritten, outside a transaction.

    Returns False: the write-ahead log and free space may hold old copies until they are reused.
    """
    quick = connection.execution_options(isolation_level="AUTOCOMMIT")
    quick.exec_driver_sql("VACUUM content, content_uses, people")
    return False


def size(connection: Connection) -> int:
    """Bytes of the log's tables and indexes."""
    query = text(
        "SELECT sum(pg_total_relation_size(to_regclass(n))) FROM unnest(cast(:names AS text[])) AS n"
    )
    names = ["events", "content", "content_uses", "artifacts", "running", "people", "meta"]
    return int(connection.execute(query, {"names": names}).scalar() or 0)


@contextlib.contextmanager
def told_plainly(name: str, patience: float) -> Iterator[None]:
    """Turn PostgreSQL's errors into a StoreError with one sentence that says what to do."""
    try:
        yield
    except DBAPIError as error:
        raise _explained(error, name, patience) from error


def _explained(error: DBAPIError, name: str, patience: float) -> StoreError:
    code = str(getattr(error.orig, "sqlstate", None) or "")
    cause = " ".join(str(error.orig).split())
    if code == "55P03":
        return StoreLockedError(
            f"the log {name} is locked: another process has been writing to it for more than {patience:g} s; "
            "wait for it or end it, then try again"
        )
    if code in ("25006", "42501"):
        return StoreReadOnlyError(f"the log {name} may not be written ({cause}); grant the right to it")
    if code.startswith("53") and code != "53300":
        return StoreFullError(f"the server of the log {name} has no room left ({cause}); free some")
    if code.startswith(("28", "3D", "3F")):
        return StorePlaceError(f"the log {name} cannot be opened ({cause}); correct the URL")
    if code.startswith("XX"):
        return StoreCorruptError(f"the log {name} is damaged ({cause}); restore a backup")
    if not code and ("authentication failed" in cause or "does not exist" in cause):
        return StorePlaceError(f"the log {name} cannot be opened ({cause}); correct the URL")
    if error.connection_invalidated or not code or code.startswith(("08", "57P", "53300")):
        return StoreUnreachableError(
            f"the log {name} cannot be reached ({cause}); start its server, or check the network"
        )
    return StoreError(f"the log {name} failed: {cause}; try again, and run `pilothouse log verify`")
