"""Erase texts from the log while its rows stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, delete, exists, select

from .errors import NotFoundError, UsageError
from .events import Batch, Draft
from .payloads import plain
from .records import Erasure
from .tables import content, content_uses, events, people

FEW = 5  # records that are named as holding a shared text; a common one may be held by thousands
MANY = 5_000  # names in one statement; databases allow some 30,000


def erase(
    connection: Connection,
    record_id: str | None,
    thread_id: str | None,
    reason: str,
    person: str | None = None,
) -> Erasure:
    """Delete the texts of a record, a thread or a person, as far as no other record holds them, and append
    the rows that say so.

    Runs inside the writer's transaction. Raises NotFoundError when there is nothing of that name, UsageError
    unless exactly one of the three is given.
    """
    records = _records(connection, record_id, thread_id, person)
    names: set[str] = set()
    for group in groups(list(records)):
        held = select(content_uses.c.sha256).where(content_uses.c.record_id.in_(group))
        names.update(connection.scalars(held))
        connection.execute(delete(content_uses).where(content_uses.c.record_id.in_(group)))
        connection.execute(delete(people).where(people.c.record_id.in_(group)))
    erased = delete_unused(connection, sorted(names))
    batch = Batch(connection, ())
    for name, thread in records.items():
        batch.add(Draft(plain("erased", name, thread, "", {"reason": reason})))
    batch.flush()
    return Erasure(
        records=tuple(records),
        threads=tuple(dict.fromkeys(records.values())),
        texts_erased=erased,
        texts_shared=len(names) - erased,
        shared_with=_holders(connection, sorted(names)),
    )


def delete_unused(connection: Connection, names: Sequence[str]) -> int:
    """Delete those texts of `names` that no record holds any more; return how many."""
    held = exists().where(content_uses.c.sha256 == content.c.sha256)
    gone = 0
    for group in groups(names):
        gone += connection.execute(delete(content).where(content.c.sha256.in_(group), ~held)).rowcount
    return gone


def groups(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Cut a long list of names into pieces that one statement can take."""
    return (tuple(names[start : start + MANY]) for start in range(0, len(names), MANY))


def _records(
    connection: Connection, record_id: str | None, thread_id: str | None, person: str | None
) -> dict[str, str]:
    """The records meant, each with its thread, oldest first."""
    given = {"record": record_id, "thread": thread_id, "person": person}
    asked = {what: name for what, name in given.items() if name is not None}
    if len(asked) != 1:
        raise UsageError("name either a record or a thread or a person to forget, exactly one of them")
    ((what, name),) = asked.items()
    theirs = select(people.c.record_id).where(people.c.person == name)
    conditions: dict[str, ColumnElement[bool]] = {
        "record": events.c.record_id == name,
        "thread": events.c.thread_id == name,
        "person": events.c.record_id.in_(theirs),
    }
    query = select(events.c.record_id, events.c.thread_id).where(events.c.kind == "opened", conditions[what])
    found = {row.record_id: row.thread_id for row in connection.execute(query.order_by(events.c.sequence))}
    if not found:
        raise NotFoundError(f"there is no {what} {name!r} in the log; see `pilothouse log list`")
    return found


def _holders(connection: Connection, names: Sequence[str]) -> tuple[str, ...]:
    """The first few records that hold one of the texts."""
    found: dict[str, None] = {}
    for group in groups(names):
        holders = select(content_uses.c.record_id).where(content_uses.c.sha256.in_(group)).distinct()
        found.update(dict.fromkeys(connection.scalars(holders.order_by(content_uses.c.record_id).limit(FEW))))
    return tuple(sorted(found)[:FEW])
