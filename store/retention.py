"""Retention by kind: texts go first, whole rows later. The log says in a row of its own what it let go.

That row comes first, on disk; then the texts or rows go in small steps, so that no writer waits long, and so
that a run that was stopped can be finished by the next one. `verify` knows both states.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Subquery, delete, func, insert, select, update

from .erasure import delete_unused
from .errors import UsageError
from .events import append
from .payloads import plain
from .records import Count, Digest, Frozen, Time
from .tables import content, content_uses, events, listing, meta, people, running

Scope = Literal["texts", "rows"]
STEP = 500  # records, or rows, in one transaction
PRUNED = "pruned"  # the key in `meta` that the seals of `events` consult
NOBODY = ""  # the record of a row about the log itself


class Expiry(Frozen):
    """What a row of retention, written `at` that time, says: texts or rows of all up to row `through` go,
    because they are older than `before`. `row_hash` is that row's hash, on which the rows that stay build.
    """

    at: Time
    scope: Scope
    before: Time
    through: Count
    row_hash: Digest
    reason: str


class Retained(Frozen):
    """What retention let go, or would: records whose texts go, texts that nobody else holds, rows.

    `texts_through` and `rows_through` are the last rows concerned, 0 for none.
    """

    records_bared: Count = 0
    texts_erased: Count = 0
    rows_pruned: Count = 0
    texts_through: Count = 0
    rows_through: Count = 0
    dry_run: bool = False
    scrubbed: bool = True


class Limits(NamedTuple):
    """Times before which texts and rows go; None keeps them."""

    texts_before: Time | None
    rows_before: Time | None

    def checked(self) -> Limits:
        """Raises UsageError when rows would go before their texts, or nothing was asked for."""
        if self.texts_before is None and self.rows_before is None:
            raise UsageError("nothing to let go: give --content AGE, --records AGE, or both")
        if self.texts_before and self.rows_before and self.rows_before > self.texts_before:
            raise UsageError(
                "texts must not be kept longer than their records; make --content the shorter age"
            )
        return self


Run = Callable[[Callable[[Connection], Any]], Any]


def retain(run: Run, limits: Limits, reason: str, dry_run: bool) -> Retained:
    """Let go what is older than `limits`. `run` runs a function in a transaction of the writer's.

    Raises UsageError as `Limits.checked`.
    """
    limits.checked()
    if dry_run:
        counted: Retained = run(lambda connection: _counted(connection, limits))
        return counted
    found = Retained()
    for scope, before in (("texts", limits.texts_before), ("rows", limits.rows_before)):
        if before is not None:
            found = _merged(found, _let_go(run, scope, before, reason))  # type: ignore[arg-type]
    return found


def _merged(one: Retained, two: Retained) -> Retained:
    ours, theirs = one.model_dump(), two.model_dump()
    return Retained(
        **{key: ours[key] or theirs[key] for key in ("dry_run", "scrubbed")}
        | {key: ours[key] + theirs[key] for key in ours if key not in ("dry_run", "scrubbed")}
    )


def _let_go(run: Run, scope: Scope, before: Time, reason: str) -> Retained:
    through = run(lambda connection: _announce(connection, scope, before, reason))
    if not through:
        return Retained()
    steps = [_bare_some] if scope == "texts" else [_bare_some, _prune_some]
    found = Retained(**{f"{scope}_through": through})
    for step in steps:
        while (done := run(partial(step, through=through))) is not None:
            found = _merged(found, done)
    return found


def _announce(connection: Connection, scope: Scope, before: Time, reason: str) -> int:
    """Write down how far texts or rows go; return that row's number, 0 when nothing is old enough."""
    through = boundary(connection, before, rows=scope == "rows")
    if not through:
        return 0
    known = max((one.through for one in expiries(connection) if one.scope == scope), default=0)
    if through <= known:  # announced before, and perhaps not finished
        return known
    query = select(events.c.row_hash).where(events.c.sequence == through)
    told = {"scope": scope, "before": before, "through": through, "reason": reason}
    row = plain("erased", NOBODY, NOBODY, "", told | {"row_hash": connection.scalars(query).one()})
    append(connection, row)
    if scope == "rows":
        _allow(connection, through)
    return through


def boundary(connection: Connection, before: Time, *, rows: bool) -> int:
    """The last row such that it and all rows up to it are older than `before`; 0 when there is none.

    Rows stay as long as a record that began before them is still open.
    """
    young = select(func.min(events.c.sequence)).where(events.c.created_at >= before)
    newest = select(func.max(events.c.sequence))
    first_young = connection.scalars(young).one()
    last = first_young - 1 if first_young is not None else connection.scalars(newest).one() or 0
    if rows:
        still_open = select(func.min(events.c.sequence)).join(
            running, running.c.record_id == events.c.record_id
        )
        first_open = connection.scalars(still_open).one()
        last = min(last, first_open - 1) if first_open is not None else last
    there = select(func.max(events.c.sequence)).where(events.c.sequence <= last)
    return int(connection.scalars(there).one() or 0)


def expiries(connection: Connection) -> list[Expiry]:
    """What retention has let go, oldest first."""
    query = select(events.c.created_at, events.c.payload).where(
        events.c.record_id == NOBODY, events.c.kind == "erased"
    )
    rows = connection.execute(query.order_by(events.c.sequence))
    return [Expiry.model_validate({"at": row.created_at} | json.loads(row.payload)) for row in rows]


def _allow(connection: Connection, through: int) -> None:
    """Tell the seals that rows up to `through` may go."""
    changed = connection.execute(update(meta).where(meta.c.key == PRUNED).values(value=str(through)))
    if not changed.rowcount:
        connection.execute(insert(meta), {"key": PRUNED, "value": str(through)})


def _bare_some(connection: Connection, through: int) -> Retained | None:
    """Take the texts of some records up to `through`; None when none is left."""
    names = list(connection.scalars(_dressed(through).limit(STEP)))
    if not names:
        return None
    held = select(content_uses.c.sha256).where(content_uses.c.record_id.in_(names)).distinct()
    texts = list(connection.scalars(held))
    connection.execute(delete(content_uses).where(content_uses.c.record_id.in_(names)))
    connection.execute(delete(people).where(people.c.record_id.in_(names)))
    return Retained(records_bared=len(names), texts_erased=delete_unused(connection, texts))


def _dressed(through: int) -> Any:
    """Ids of the records, opened up to `through`, that still hold a text."""
    old = (events.c.kind == "opened") & (events.c.sequence <= through)
    return (
        select(content_uses.c.record_id)
        .join(events, events.c.record_id == content_uses.c.record_id)
        .where(old)
        .distinct()
    )


def _prune_some(connection: Connection, through: int) -> Retained | None:
    """Take some rows up to `through`, the oldest first; None when none is left."""
    oldest = connection.scalars(select(func.min(events.c.sequence))).one()
    if oldest is None or oldest > through:
        return None
    last = min(through, oldest + STEP - 1)
    gone = connection.execute(delete(events).where(events.c.sequence <= last)).rowcount
    connection.execute(delete(listing).where(listing.c.sequence <= last))
    return Retained(rows_pruned=gone)


def _counted(connection: Connection, limits: Limits) -> Retained:
    """What would go."""
    texts = boundary(connection, limits.texts_before, rows=False) if limits.texts_before else 0
    rows = boundary(connection, limits.rows_before, rows=True) if limits.rows_before else 0
    bared = _dressed(max(texts, rows)).subquery()
    old_rows = select(func.count()).select_from(events).where(events.c.sequence <= rows)
    return Retained(
        records_bared=connection.scalars(select(func.count()).select_from(bared)).one(),
        texts_erased=connection.scalars(_only_theirs(bared)).one(),
        rows_pruned=connection.scalars(old_rows).one(),
        texts_through=texts,
        rows_through=rows,
        dry_run=True,
    )


def _only_theirs(bared: Subquery) -> Any:
    """How many texts no record outside `bared` holds."""
    inside: ColumnElement[bool] = content_uses.c.record_id.in_(select(bared.c.record_id))
    theirs = select(content_uses.c.sha256).where(inside)
    others = select(content_uses.c.sha256).where(~inside)
    return (
        select(func.count())
        .select_from(content)
        .where(content.c.sha256.in_(theirs), content.c.sha256.not_in(others))
    )
