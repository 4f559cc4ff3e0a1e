"""Erase texts from the log while its rows stand."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from .errors import NotFoundError, UsageError
from .events import append
from .payloads import plain
from .records import Erasure
from .tables import content, content_uses, events

FEW = 5  # records that are named as holding a shared text; a common one may be held by thousands


def erase(connection: Connection, record_id: str | None, thread_id: str | None, reason: str) -> Erasure:
    """Delete the texts of a record or a thread, as far as no other record holds them, and append the rows
    that say so.

    Runs inside the writer's transaction. Raises NotFoundError when there is nothing of that name,
    UsageError unless exactly one of the two is given.
    """
    records = _records(connection, record_id, thread_id)
    names = _held_by(connection, records)
    connection.execute(delete(content_uses).where(content_uses.c.record_id.in_(records)))
    others = select(content_uses.c.sha256, content_uses.c.record_id).where(content_uses.c.sha256.in_(names))
    shared = connection.execute(others.order_by(content_uses.c.record_id)).all()
    doomed = sorted(set(names) - {row.sha256 for row in shared})
    connection.execute(delete(content).where(content.c.sha256.in_(doomed)))
    for name, thread in records.items():
        append(connection, plain("erased", name, thread, "", {"reason": reason}))
    return Erasure(
        records=tuple(records),
        texts_erased=len(doomed),
        texts_shared=len(set(names)) - len(doomed),
        shared_with=tuple(dict.fromkeys(row.record_id for row in shared))[:FEW],
    )


def _records(connection: Connection, record_id: str | None, thread_id: str | None) -> dict[str, str]:
    """The records meant, each with its thread, oldest first."""
    if (record_id is None) == (thread_id is None):
        raise UsageError("name either a record or a thread to forget, not both and not neither")
    column, name = (
        (events.c.record_id, record_id) if record_id is not None else (events.c.thread_id, thread_id)
    )
    query = select(events.c.record_id, events.c.thread_id).where(events.c.kind == "opened", column == name)
    found = {row.record_id: row.thread_id for row in connection.execute(query.order_by(events.c.sequence))}
    if not found:
        what = "record" if record_id is not None else "thread"
        raise NotFoundError(f"there is no {what} {name!r} in the log; see `pilothouse log list`")
    return found


def _held_by(connection: Connection, records: dict[str, str]) -> Sequence[str]:
    held = select(content_uses.c.sha256).where(content_uses.c.record_id.in_(records)).distinct()
    return connection.scalars(held).all()
