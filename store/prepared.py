"""The writer's statements, compiled once.

SQLAlchemy looks a statement up and builds an execution for it each time, which for one row costs more than
SQLite's own work. Here SQLite gets the compiled text and the rows at once; other databases, for which the way
to the server is what costs, get them through SQLAlchemy. A test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, Delete, Executable, Insert, Select, Table, Update, insert
from sqlalchemy.dialects import sqlite

Row = Mapping[str, Any]
_NAMED = sqlite.dialect(paramstyle="named")


@cache
def adding(table: Table) -> Insert:
    """An insert into `table`."""
    return insert(table)


@cache
def adding_new(table: Table, dialect: str) -> Insert:
    """An insert that leaves a row alone whose key is there; both databases write it alike."""
    own = import_module(f"sqlalchemy.dialects.{'sqlite' if dialect == 'sqlite' else 'postgresql'}")
    statement: Insert = own.insert(table).on_conflict_do_nothing()
    return statement


def run(connection: Connection, statement: Insert | Update | Delete, rows: Sequence[Row]) -> None:
    """Execute `statement`, one of the few kept for ever, once a row; all rows have the same names."""
    if not rows:
        return
    if connection.dialect.name != "sqlite":
        connection.execute(statement, rows)
        return
    _driver(connection).executemany(_text(statement, tuple(rows[0])), rows)


def found(connection: Connection, query: Select[Any], **values: str) -> list[tuple[Any, ...]]:
    """The rows of `query`, one of the few that are kept for ever."""
    if connection.dialect.name != "sqlite":
        return [tuple(row) for row in connection.execute(query, values)]
    rows: list[tuple[Any, ...]] = _driver(connection).execute(_text(query, ()), values).fetchall()
    return rows


@cache
def _text(statement: Executable, names: tuple[str, ...]) -> str:
    return str(statement.compile(dialect=_NAMED, column_keys=list(names) or None))  # type: ignore[attr-defined]


def _driver(connection: Connection) -> Any:
    """The connection below SQLAlchemy's, in the same transaction."""
    return connection.connection.dbapi_connection
