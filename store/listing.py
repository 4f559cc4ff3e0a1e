"""The list of records: one narrow row each, kept beside the log so that a page of the list costs the same at
any size.

It holds nothing that the rows of `events` do not say; `verify` compares the two. The newest comes first, by
the time asked, then by place in the chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    func,
    or_,
    select,
    tuple_,
    union_all,
    update,
)

from . import prepared
from .database import newest_holding
from .records import Frozen, Status, Time
from .tables import content, content_uses, events, listing, people

MOST_TEXTS = 2000  # texts that a search for the list looks at, the newest first
_ENDS = ("status", "specialists", "p_correct", "total_ms")
_END = update(listing).where(listing.c.record_id == bindparam("who")).values({n: bindparam(n) for n in _ENDS})
ORDER = (listing.c.created_at.desc(), listing.c.sequence.desc())


class Filter(Frozen):
    """Which records: every given condition holds. `since` is included, `until` is not.

    `text` finds every word of it in one of the record's texts (earlier turns of the conversation included).
    """

    status: Status | None = None
    specialist: str | None = None
    thread: str | None = None
    person: str | None = None
    since: Time | None = None
    until: Time | None = None
    text: str | None = None


# -- writing -----------------------------------------------------------------------------------------------


class Lines:
    """What a batch of rows does to the list."""

    def __init__(self) -> None:
        self._opened: dict[str, dict[str, Any]] = {}
        self._closed: list[dict[str, Any]] = []

    def open(self, row: Mapping[str, Any]) -> None:
        """A record begins: its opening row."""
        names = ("sequence", "record_id", "thread_id", "created_at", "status", "specialists")
        self._opened[row["record_id"]] = {name: row[name] for name in names} | _nothing()

    def close(self, row: Mapping[str, Any], p_correct: float | None, total_ms: float) -> None:
        """A record ends: its closing row, the first part's P(correct) and the parts' milliseconds."""
        ends = {"status": row["status"], "specialists": row["specialists"]}
        ends |= {"p_correct": p_correct, "total_ms": total_ms}
        if row["record_id"] in self._opened:
            self._opened[row["record_id"]] |= ends
        else:
            self._closed.append({"who": row["record_id"], **ends})

    def flush(self, connection: Connection) -> None:
        """Write it, after the rows of `events`."""
        prepared.run(connection, prepared.adding(listing), list(self._opened.values()))
        prepared.run(connection, _END, self._closed)


def _nothing() -> dict[str, Any]:
    return {"p_correct": None, "total_ms": 0.0}


# -- reading -----------------------------------------------------------------------------------------------


def newest(connection: Connection, wanted: Filter, limit: int, before: str | None = None) -> list[str]:
    """Ids of the newest `limit` records that fit; `before` is the id at which a list ended.

    A text is looked for in the newest `MOST_TEXTS` texts that hold it; see `more_texts`.
    """
    conditions = list(_conditions(wanted))
    if before is not None:
        place = select(listing.c.created_at, listing.c.sequence).where(listing.c.record_id == before)
        found = connection.execute(place).first()
        if found is None:
            return []
        conditions.append(tuple_(listing.c.created_at, listing.c.sequence) < tuple_(*found))
    if wanted.text is not None:
        return _searched(connection, wanted, conditions, limit)
    if wanted.thread is not None:
        conditions += _besides(wanted)
        return _ids(connection, conditions, limit)
    if wanted.specialist is not None:
        return _of_specialist(connection, wanted, conditions, limit)
    if wanted.status is not None:
        conditions.append(listing.c.status == wanted.status)
    return _ids(connection, conditions, limit)


def _conditions(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    """Those that every index of the list helps with, and those that none does."""
    if wanted.thread is not None:
        yield listing.c.thread_id == wanted.thread
    if wanted.since is not None:
        yield listing.c.created_at >= wanted.since
    if wanted.until is not None:
        yield listing.c.created_at < wanted.until
    if wanted.person is not None:
        theirs = select(people.c.record_id).where(people.c.person == wanted.person)
        yield listing.c.record_id.in_(theirs)


def _besides(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    """Conditions that only sift what a better index found: hidden from the planner, which has no counts."""
    if wanted.status is not None:
        yield func.coalesce(listing.c.status, "") == wanted.status
    if wanted.specialist is not None:
        yield listing.c.specialists.contains(f",{wanted.specialist},", autoescape=True)


def _ids(connection: Connection, conditions: Iterable[ColumnElement[bool]], limit: int) -> list[str]:
    query = select(listing.c.record_id).where(and_(True, *conditions)).order_by(*ORDER).limit(limit)
    return list(connection.scalars(query))


def _of_specialist(
    connection: Connection, wanted: Filter, conditions: list[ColumnElement[bool]], limit: int
) -> list[str]:
    """One ordered look-up for each team that the specialist was in, merged."""
    name = f",{wanted.specialist},"
    teams = [team for team in all_teams(connection) if name in team]
    if wanted.status is not None:
        conditions = [*conditions, func.coalesce(listing.c.status, "") == wanted.status]
    if not teams:
        return []
    columns = (listing.c.record_id, listing.c.created_at, listing.c.sequence)
    looks = [
        select(
            select(*columns)
            .where(listing.c.specialists == team, *conditions)
            .order_by(*ORDER)
            .limit(limit)
            .subquery()
        )
        for team in teams
    ]
    every = union_all(*looks).subquery()
    query = (
        select(every.c.record_id).order_by(every.c.created_at.desc(), every.c.sequence.desc()).limit(limit)
    )
    return list(connection.scalars(query))


def all_teams(connection: Connection) -> list[str]:
    """The different values of `specialists`, found by jumping along the index from one to the next."""
    step = select(func.min(listing.c.specialists))
    found: list[str] = []
    last = connection.scalar(step)
    while last is not None:
        found.append(last)
        last = connection.scalar(step.where(listing.c.specialists > last))
    return found


def _newest_texts(connection: Connection, words: str) -> list[int]:
    """The newest texts that hold the words, one more than are looked at."""
    return newest_holding(connection, words, MOST_TEXTS + 1)


def more_texts(connection: Connection, words: str) -> bool:
    """Whether more texts hold the words than a search for the list looks at."""
    return len(_newest_texts(connection, words)) > MOST_TEXTS


def _searched(
    connection: Connection, wanted: Filter, conditions: list[ColumnElement[bool]], limit: int
) -> list[str]:
    texts = _newest_texts(connection, str(wanted.text))[:MOST_TEXTS]
    holders: set[str] = set()
    for start in range(0, len(texts), 500):
        names = select(content.c.sha256).where(content.c.id.in_(texts[start : start + 500]))
        uses = select(content_uses.c.record_id).where(content_uses.c.sha256.in_(names))
        holders.update(connection.scalars(uses))
    conditions = [*conditions, *_besides(wanted)]
    found: list[Any] = []
    for group in _groups(sorted(holders), 500):
        query = select(listing.c.created_at, listing.c.sequence, listing.c.record_id)
        found += connection.execute(query.where(listing.c.record_id.in_(group), *conditions))
    return [row.record_id for row in sorted(found, reverse=True)[:limit]]


def _groups(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


# -- comparing ---------------------------------------------------------------------------------------------


def mislisted(connection: Connection) -> tuple[int, str, str] | None:
    """The first row that the list hides or tells differently: (sequence, record, what is wrong)."""
    same = and_(
        listing.c.record_id == events.c.record_id,
        listing.c.thread_id == events.c.thread_id,
        listing.c.created_at == events.c.created_at,
    )
    begun = (
        select(events.c.sequence, events.c.record_id)
        .outerjoin(listing, and_(listing.c.sequence == events.c.sequence, same))
        .where(events.c.kind == "opened", listing.c.sequence.is_(None))
    )
    ended = (
        select(events.c.sequence, events.c.record_id)
        .join(listing, listing.c.record_id == events.c.record_id)
        .where(events.c.kind == "closed")
        .where(
            or_(listing.c.status != events.c.status, listing.c.specialists != events.c.specialists),
        )
    )
    for query in (begun, ended):
        row = connection.execute(query.order_by(events.c.sequence).limit(1)).first()
        if row is not None:
            return row.sequence, row.record_id, "the list of records hides it, or tells it differently"
    return None
