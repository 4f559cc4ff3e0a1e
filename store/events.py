"""Append to the hash chain. Everything here runs in the writer's transaction, which holds the write lock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, bindparam, delete, func, select

from . import prepared
from .hashes import GENESIS, seal
from .listing import Lines
from .payloads import Event, artifact_id, row_of
from .process import Process
from .records import Artifact
from .tables import artifacts, content, content_uses, events, meta, people, running

_TIP = select(events.c.sequence, events.c.row_hash).where(
    events.c.sequence == select(func.max(events.c.sequence)).scalar_subquery()
)
_HISTORY = select(events.c.thread_id, events.c.kind).where(events.c.record_id == bindparam("who"))
_END = delete(running).where(running.c.record_id == bindparam("who"))


class History(NamedTuple):
    """What the log holds of a record: its thread (None for an unknown record) and the kinds of its rows."""

    thread_id: str | None = None
    kinds: frozenset[str] = frozenset()


class Draft(NamedTuple):
    """A row to append, and what goes with it. `opens` is the process that will close it; `closes`: it ends
    here.
    """

    event: Event
    artifacts: Mapping[str, Mapping[str, Any]] = {}
    opens: Process | None = None
    closes: bool = False
    person: str | None = None


def lock_chain(connection: Connection) -> None:
    """Make this transaction the only one that extends the chain.

    SQLite's BEGIN IMMEDIATE has done so already; other databases lock the row.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(select(meta.c.value).where(meta.c.key == "chain").with_for_update())


def tip(connection: Connection) -> tuple[int, str]:
    """Sequence number and hash of the last row; (0, 64 zeros) for an empty log."""
    rows = prepared.found(connection, _TIP)
    return (rows[0][0], rows[0][1]) if rows else (0, GENESIS)


def append(connection: Connection, event: Event) -> int:
    """Add `event` with its texts and return its sequence number."""
    batch = Batch(connection, ())
    sequence = batch.add(Draft(event))
    batch.flush()
    return sequence


class Batch:
    """Rows on their way into the chain together: linked in memory, then written with one statement a table.

    One row at a time, the statements would cost more than the rows (measured by `pilothouse bench log`).
    `spelled` are keys of artifacts that the log surely has: those are not written again.
    """

    def __init__(
        self, connection: Connection, record_ids: Iterable[str], spelled: Set[str] = frozenset()
    ) -> None:
        self._connection, self._spelled = connection, spelled
        self._last, self._hash = tip(connection)
        self._histories = _histories(connection, set(record_ids))
        self._rows: list[dict[str, Any]] = []
        self._texts: dict[str, str] = {}
        self._uses: dict[tuple[str, str], None] = {}
        self.artifacts: dict[str, Mapping[str, Any]] = {}
        self._running: dict[str, Process] = {}
        self._ended: list[str] = []
        self._people: dict[str, str] = {}
        self._lines = Lines()

    def history(self, record_id: str) -> History:
        """What the log and this batch hold of a record that was named at the start."""
        return self._histories.get(record_id, History())

    def add(self, draft: Draft) -> int:
        """Give the row its place in the chain, and return its sequence number."""
        event = draft.event
        row = row_of(event, self._last + 1)
        row |= {"prev_hash": self._hash, "row_hash": seal(self._hash, row)}
        self._last, self._hash = row["sequence"], row["row_hash"]
        self._rows.append(row)
        self._texts.update(event.texts)
        self._uses.update(dict.fromkeys((event.record_id, name) for name in event.texts))
        if not draft.artifacts.keys() <= self._spelled:
            self.artifacts.update(draft.artifacts)
        if draft.opens is not None:
            self._running[event.record_id] = draft.opens
        if draft.closes and self._running.pop(event.record_id, None) is None:
            self._ended.append(event.record_id)
        if draft.person is not None:
            self._people[event.record_id] = draft.person
        if event.kind == "opened":
            self._lines.open(row)
        elif event.kind == "closed":
            self._lines.close(row, event.p_correct, event.total_ms)
        known = self.history(event.record_id)
        self._histories[event.record_id] = History(event.thread_id, known.kinds | {event.kind})
        return self._last

    def flush(self) -> None:
        """Write what was added."""
        self._insert(events, self._rows)
        self._lines.flush(self._connection)
        self._insert_new(content, [{"sha256": key, "text": text} for key, text in self._texts.items()])
        self._insert_new(content_uses, [{"record_id": who, "sha256": key} for who, key in self._uses])
        self._insert_new(artifacts, [{"id": key, **row} for key, row in self.artifacts.items()])
        marks = [{"record_id": who, **process.model_dump()} for who, process in self._running.items()]
        self._insert(running, marks)
        prepared.run(self._connection, _END, [{"who": name} for name in self._ended])
        self._insert(people, [{"record_id": who, "person": name} for who, name in self._people.items()])

    def _insert(self, table: Table, rows: list[dict[str, Any]]) -> None:
        prepared.run(self._connection, prepared.adding(table), rows)

    def _insert_new(self, table: Table, rows: list[dict[str, Any]]) -> None:
        statement = prepared.adding_new(table, self._connection.dialect.name)
        prepared.run(self._connection, statement, rows)


def _histories(connection: Connection, names: set[str]) -> dict[str, History]:
    known: dict[str, History] = {}
    for name, thread_id, kind in _kinds(connection, names):
        known[name] = History(thread_id, known.get(name, History()).kinds | {kind})
    return known


def _kinds(connection: Connection, names: set[str]) -> Iterator[Sequence[str]]:
    """(record, thread, kind) of all rows of these records: a query each in SQLite, one in all elsewhere."""
    if connection.dialect.name == "sqlite":
        for name in names:
            yield from ((name, *row) for row in prepared.found(connection, _HISTORY, who=name))
    elif names:
        columns = (events.c.record_id, events.c.thread_id, events.c.kind)
        yield from map(tuple, connection.execute(select(*columns).where(events.c.record_id.in_(names))))


@lru_cache(maxsize=64)
def rows_of(given: tuple[Artifact, ...]) -> Mapping[str, Mapping[str, Any]]:
    """Rows of the table of artifacts, by their keys. A family's many are the same for each of its answers."""
    return {artifact_id(artifact): artifact.model_dump() for artifact in given}
