"""Append to the hash chain. Every function here runs inside the writer's transaction, which holds the write
lock.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, select

from .hashes import GENESIS, seal
from .payloads import Event, artifact_id, row_of
from .process import Process
from .records import Artifact
from .tables import artifacts, content, content_uses, events, meta, running


def lock_chain(connection: Connection) -> None:
    """Make this transaction the only one that extends the chain.

    SQLite's BEGIN IMMEDIATE has done so already; other databases lock the row.
    """
    connection.execute(select(meta.c.value).where(meta.c.key == "chain").with_for_update())


def tip(connection: Connection) -> tuple[int, str]:
    """Sequence number and hash of the last row; (0, 64 zeros) for an empty log."""
    newest = select(events.c.sequence, events.c.row_hash).order_by(events.c.sequence.desc()).limit(1)
    row = connection.execute(newest).first()
    return (row.sequence, row.row_hash) if row else (0, GENESIS)


def append(connection: Connection, event: Event) -> int:
    """Add `event` with its texts and return its sequence number."""
    last, prev_hash = tip(connection)
    row = row_of(event, last + 1)
    row |= {"prev_hash": prev_hash, "row_hash": seal(prev_hash, row)}
    connection.execute(insert(events), row)
    if event.texts:
        _keep_texts(connection, event)
    return last + 1


def _keep_texts(connection: Connection, event: Event) -> None:
    names = list(event.texts)
    known = set(connection.scalars(select(content.c.sha256).where(content.c.sha256.in_(names))))
    fresh = [{"sha256": name, "text": event.texts[name]} for name in names if name not in known]
    if fresh:
        connection.execute(insert(content), fresh)
    of_record = select(content_uses.c.sha256).where(content_uses.c.record_id == event.record_id)
    used = set(connection.scalars(of_record))
    uses = [{"record_id": event.record_id, "sha256": name} for name in names if name not in used]
    if uses:
        connection.execute(insert(content_uses), uses)


def keep_artifacts(connection: Connection, given: Iterable[Artifact]) -> None:
    """Write down each artifact once."""
    rows = {artifact_id(artifact): artifact.model_dump() for artifact in given}
    if not rows:
        return
    known = set(connection.scalars(select(artifacts.c.id).where(artifacts.c.id.in_(rows))))
    fresh = [{"id": key, **row} for key, row in rows.items() if key not in known]
    if fresh:
        connection.execute(insert(artifacts), fresh)


def mark_running(connection: Connection, record_id: str, process: Process) -> None:
    """Note which process is writing the record."""
    connection.execute(insert(running), {"record_id": record_id, **process.model_dump()})


def mark_ended(connection: Connection, record_id: str) -> None:
    """Nobody is writing the record any more."""
    connection.execute(delete(running).where(running.c.record_id == record_id))


def history(connection: Connection, record_id: str) -> tuple[str | None, set[str]]:
    """The record's thread (None for an unknown record) and the kinds of row it has."""
    query = select(events.c.thread_id, events.c.kind).where(events.c.record_id == record_id)
    found = connection.execute(query).all()
    return (found[0].thread_id if found else None), {row.kind for row in found}
