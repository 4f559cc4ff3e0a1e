"""The schema: made, brought up under a lock with a copy kept, refused when newer."""

import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import delete, insert, inspect, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from pilothouse.store import database
from pilothouse.store.audit import Audit, Filter
from pilothouse.store.database import HEAD, MIGRATIONS, VERSION_TABLE, Place, ensure_schema, revision
from pilothouse.store.errors import StoreCorruptError, StoreVersionError
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Request
from pilothouse.store.tables import events, metadata

NEXT = '''"""A later schema, as a test imagines it."""
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"

def upgrade():
    with op.batch_alter_table("content_uses") as batch:
        batch.add_column(sa.Column("extra", sa.Text(), nullable=True))
    with op.batch_alter_table("events") as batch:
        batch.alter_column("thread_id", type_=sa.String(300))
    {then}
'''


@pytest.fixture
def later(tmp_path: Path) -> Callable[[str], Path]:
    """Migrations with one more revision, as a later program would have."""

    def make(then: str = "pass") -> Path:
        folder = tmp_path / "migrations"
        shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "9999_later.py").write_text(NEXT.format(head=HEAD, then=then))
        return folder

    return make


def _one_record(log: Path, ask: Callable[..., Request]) -> str:
    with Ledger.open(log, code="test") as ledger:
        record_id = ledger.begin(ask("hello"))
        ledger.finish(record_id, "completed", answer="good day")
    return record_id


def test_the_program_names_the_newest_revision() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


def test_the_migrations_make_the_tables_of_the_program(log: Path) -> None:
    with Ledger.open(log, code="test") as ledger, ledger._engine.connect() as connection:
        options = {
            "compare_type": True,
            "version_table": VERSION_TABLE,
            "include_name": lambda name, kind, _: (
                kind != "table" or not str(name).startswith("content_words")
            ),
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_a_new_log_needs_no_second_look(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger.open(log, code="test").close()
    monkeypatch.setattr(database, "_migrate", lambda *_: pytest.fail("migrated again"))
    Ledger.open(log, code="test").close()


def test_an_older_log_is_brought_up_and_a_copy_is_kept(
    log: Path, ask: Callable[..., Request], later: Callable[..., Path]
) -> None:
    record_id = _one_record(log, ask)
    place = Place.of(log)
    engine = place.writing_engine()
    copy = ensure_schema(place, engine, later())
    assert copy is not None
    assert copy.name.startswith(f"log.before-{HEAD}-")
    assert copy.stat().st_mode & 0o077 == 0
    with engine.connect() as connection:
        assert revision(connection) == "9999"
    assert ensure_schema(place, engine, log.parents[1] / "migrations") is None  # nothing left to do
    with Audit.open(copy) as audit:  # the copy is the log as it was
        assert audit.page(record_id).answer == "good day"
        assert audit.verify().ok
    with closing(sqlite3.connect(log)) as connection:
        seals = {
            row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        }
        assert seals == {"content_added", "content_removed", "events_keep", "events_stay"}
        query = "SELECT count(*) FROM content_words WHERE content_words MATCH 'good'"
        assert connection.execute(query).fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)


def test_the_hashes_lose_their_indexes_and_the_log_nothing(
    where: str, ask: Callable[..., Request], aged: Callable[[str, str], None]
) -> None:
    def unique() -> set[str]:
        engine = Place.of(where).writing_engine()
        with engine.connect() as connection:
            found = inspect(connection).get_unique_constraints("events")
        engine.dispose()
        return {column for one in found for column in one["column_names"]}

    with Ledger.open(where, code="test") as ledger:
        names = [ledger.begin(ask(f"hello {number}", person="me")) for number in range(5)]
        for name in names[1:]:
            ledger.finish(name, "completed", answer="good day")
    aged(where, "0003")
    assert unique() == {"prev_hash", "row_hash"}
    with Audit.open(where) as audit:
        assert unique() == set()
        found = audit.verify()
        assert (found.ok, found.rows, found.texts) == (True, 9, 6)
        assert {row.id for row in audit.summaries(Filter(text="hello"))} == set(names)
    with Ledger.open(where, code="test") as ledger, ledger._engine.connect() as connection:
        with pytest.raises(IntegrityError):  # what keeps the chain from forking
            connection.execute(insert(events).from_select(list(events.c), select(events).limit(1)))
        connection.rollback()
        for change in (update(events).values(status="failed"), delete(events)):
            with pytest.raises(DBAPIError, match="append-only"):
                connection.execute(change)
            connection.rollback()


def test_a_newer_log_is_refused_by_name(
    log: Path, ask: Callable[..., Request], later: Callable[..., Path]
) -> None:
    _one_record(log, ask)
    place = Place.of(log)
    ensure_schema(place, place.writing_engine(), later())
    before = log.read_bytes()
    for opener in (Ledger.open, Audit.open):
        with pytest.raises(StoreVersionError, match=rf"'9999', newer than '{HEAD}'.*PILOTHOUSE_LOG"):
            opener(log)
    assert log.read_bytes() == before


def test_a_migration_that_fails_changes_nothing(
    log: Path, ask: Callable[..., Request], later: Callable[..., Path]
) -> None:
    record_id = _one_record(log, ask)
    place = Place.of(log)
    with pytest.raises(RuntimeError, match="half way"):
        ensure_schema(place, place.writing_engine(), later("raise RuntimeError('half way')"))
    with Audit.open(log) as audit:
        assert audit.page(record_id).answer == "good day"
        assert audit.verify().ok


def test_many_openers_make_one_log(log: Path, ask: Callable[..., Request]) -> None:
    def opened(number: int) -> str:
        with Ledger.open(log, code="test") as ledger:
            return ledger.begin(ask(f"prompt {number}"))

    with ThreadPoolExecutor(6) as pool:
        names = list(pool.map(opened, range(6)))
    with Audit.open(log) as audit:
        assert {row.id for row in audit.summaries()} == set(names)
        assert audit.verify().ok


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "music.db"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE songs (name)")
    for opener in (Ledger.open, Audit.open):
        with pytest.raises(StoreCorruptError, match=r"no log: it holds the table 'songs'"):
            opener(other)
