"""Counts for the overview, from the narrow list alone: no payload is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select

from .listing import Filter
from .records import Count, Frozen, Status
from .tables import events, listing

HEADS = {"day": 10, "hour": 13, "minute": 16}  # characters of a time that name its day, hour, minute


class Bar(Frozen):
    """How many records of one status fall into one stretch of time."""

    start: str
    status: Status
    count: Count


class Team(Frozen):
    """How many records these specialists answered; nobody's is the empty team."""

    specialists: tuple[str, ...]
    count: Count


def within(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    """The conditions on time, specialist and conversation, on the list's columns."""
    if wanted.since is not None:
        yield listing.c.created_at >= wanted.since
    if wanted.until is not None:
        yield listing.c.created_at < wanted.until
    if wanted.thread is not None:
        yield listing.c.thread_id == wanted.thread
    if wanted.status is not None:
        yield listing.c.status == wanted.status
    if wanted.specialist is not None:
        yield listing.c.specialists.contains(f",{wanted.specialist},", autoescape=True)


def reach(connection: Connection, wanted: Filter) -> tuple[str, str] | None:
    """The first and the last time asked; None where no record fits."""
    query = select(func.min(listing.c.created_at), func.max(listing.c.created_at))
    first, last = connection.execute(query.where(and_(True, *within(wanted)))).one()
    return (first, last) if first is not None else None


def volume(connection: Connection, wanted: Filter, head: int) -> list[Bar]:
    """Records by stretch of time and status, in the order of time; `head` as in `HEADS`."""
    start = func.substr(listing.c.created_at, 1, head).label("start")
    query = select(start, listing.c.status, func.count()).where(and_(True, *within(wanted)))
    rows = connection.execute(query.group_by(start, listing.c.status).order_by(start, listing.c.status))
    return [Bar(start=row[0], status=row[1], count=row[2]) for row in rows]


def teams(connection: Connection, wanted: Filter) -> list[Team]:
    """Records by who answered, the most first."""
    query = select(listing.c.specialists, func.count()).where(and_(True, *within(wanted)))
    rows = connection.execute(query.group_by(listing.c.specialists)).all()
    found = [Team(specialists=tuple(filter(None, name.split(","))), count=count) for name, count in rows]
    return sorted(found, key=lambda team: (-team.count, team.specialists))


def latencies(connection: Connection, wanted: Filter, head: int, limit: int) -> list[tuple[str, float]]:
    """(stretch of time, milliseconds) of the newest completed records, the newest first."""
    query = select(func.substr(listing.c.created_at, 1, head), listing.c.total_ms)
    query = query.where(func.coalesce(listing.c.status, "") == "completed", *within(wanted))
    newest = query.order_by(listing.c.created_at.desc(), listing.c.sequence.desc()).limit(limit)
    return [(row[0], row[1]) for row in connection.execute(newest)]


def edge(connection: Connection, wanted: Filter, limit: int, *, oldest: bool) -> list[str]:
    """Ids of the oldest or newest records that fit."""
    order: list[Any] = [listing.c.created_at, listing.c.sequence]
    if not oldest:
        order = [column.desc() for column in order]
    query = select(listing.c.record_id).where(and_(True, *within(wanted))).order_by(*order)
    return list(connection.scalars(query.limit(limit)))


def scored(connection: Connection, wanted: Filter, limit: int) -> list[str]:
    """Ids of the records that got the newest outcomes, and fit."""
    query = (
        select(events.c.record_id)
        .join(listing, listing.c.record_id == events.c.record_id)
        .where(events.c.kind == "outcome", *within(wanted))
        .order_by(events.c.created_at.desc())
        .limit(limit)
    )
    return list(dict.fromkeys(connection.scalars(query)))
