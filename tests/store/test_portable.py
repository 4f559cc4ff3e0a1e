"""The tables and queries are no dialect's own: they compile for PostgreSQL, and each database's own words
stand in one file.
"""

import re
from pathlib import Path

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

import pilothouse.store
from pilothouse.store import postgres
from pilothouse.store.audit import Filter, _matching_records
from pilothouse.store.tables import events, metadata

STORE = Path(next(iter(pilothouse.store.__path__)))
DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", sorted(metadata.tables))
def test_tables_compile_for_postgresql(name: str) -> None:
    assert f"CREATE TABLE {name}" in str(CreateTable(metadata.tables[name]).compile(dialect=DIALECT))


def test_once_only_rows_hold_on_postgresql_too() -> None:
    from sqlalchemy.schema import CreateIndex

    once = next(index for index in events.indexes if index.name == "uq_events_closed")
    assert postgres.events is events  # where PostgreSQL is known, the index is told
    told = str(CreateIndex(once).compile(dialect=DIALECT))
    assert told == "CREATE UNIQUE INDEX uq_events_closed ON events (record_id) WHERE kind = 'closed'"


def test_queries_compile_for_postgresql() -> None:
    wanted = Filter(status="completed", specialist="facts", thread="t", since="2026-01-01T00:00Z")
    assert "LEFT OUTER JOIN" in str(_matching_records(wanted).compile(dialect=DIALECT))


def test_each_databases_own_words_stand_in_one_file() -> None:
    words = re.compile(
        r"PRAGMA|fts5|MATCH|VACUUM|sqlite_master|BEGIN IMMEDIATE|pg_\w+|tsquery|plpgsql", re.IGNORECASE
    )
    guilty = {
        path.name
        for path in STORE.rglob("*.py")
        for line in path.read_text().splitlines()
        if words.search(re.sub(r"#.*|\"\"\".*|`.*?`", "", line)) and re.search(r"exec|text\(", line)
    }
    assert guilty == {"postgres.py", "sqlite.py"}
