"""Recompute the chain and the digests of the texts; name the first thing that is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, Select, func, select

from .errors import UsageError
from .hashes import GENESIS, canonical, digest, seal
from .listing import mislisted
from .records import Count, Digest, Frozen
from .retention import NOBODY, expiries
from .tables import artifacts, content, content_uses, events

CHUNK = 500  # rows held at once


class Break(Frozen):
    """Where the log stops agreeing with itself. `sequence` is None for a text or artifact without a row."""

    sequence: int | None
    record_id: str | None
    reason: str


class Verification(Frozen):
    """What `verify` found: `tip` is `SEQUENCE:HASH` of the last row, to be kept where this log's writers
    cannot reach. `rows` counts to the last row; the first `pruned` of them were let go by retention.
    """

    ok: bool
    rows: Count
    records: Count
    texts: Count
    tip: str
    broken: Break | None = None
    pruned: Count = 0


class Tip(Frozen):
    """A row's place and hash, as noted earlier."""

    sequence: Count
    row_hash: Digest

    @classmethod
    def read(cls, text: str) -> Tip:
        """Read `SEQUENCE:HASH`. Raises UsageError for anything else."""
        sequence, _, row_hash = text.strip().partition(":")
        try:
            return cls(sequence=int(sequence), row_hash=row_hash)
        except ValueError as error:
            raise UsageError(
                f"tip {text!r} cannot be read; write SEQUENCE:HASH as `pilothouse log verify` prints it"
            ) from error

    def __str__(self) -> str:
        return f"{self.sequence}:{self.row_hash}"


def verify(connection: Connection, known: Tip | None = None) -> Verification:
    """Check every row, every text and every artifact; with `known`, also that the log still holds that row.

    Without a tip noted elsewhere, rows cut off the end, or a chain rebuilt from its start, cannot be seen.
    """
    walk = _Walk(connection, known)
    broken = walk.rows() or walk.contents() or walk.known_is_there() or _unlisted(connection)
    return Verification(
        ok=broken is None,
        rows=walk.tip.sequence,
        records=walk.records,
        texts=walk.texts,
        tip=str(walk.tip),
        broken=broken,
        pruned=walk.pruned.through if walk.pruned is not None else 0,
    )


def _unlisted(connection: Connection) -> Break | None:
    found = mislisted(connection)
    return Break(sequence=found[0], record_id=found[1], reason=found[2]) if found is not None else None


class _Walk:
    """One pass over the log, with what it has seen. Holds a few hundred rows at a time."""

    def __init__(self, connection: Connection, known: Tip | None) -> None:
        self.connection = connection
        self.known = known
        self.tip = Tip(sequence=0, row_hash=GENESIS)
        self.records = self.texts = 0
        self.listed: dict[str, _Place] = {}  # artifacts that rows name, each with the first row that does
        query = select(events.c.record_id).where(events.c.kind == "erased")
        self.erased = set(connection.scalars(query)) - {NOBODY}
        let_go = expiries(connection)
        self.bare_through = max((one.through for one in let_go), default=0)
        self.pruned = max(
            (one for one in let_go if one.scope == "rows"), key=lambda e: e.through, default=None
        )

    def rows(self) -> Break | None:
        """Walk the chain; return the first broken row."""
        query = select(events).order_by(events.c.sequence)
        for chunk in _chunks(_streamed(self.connection, query)):
            named: dict[str, _Place] = {}
            for row in chunk:
                reason = self._wrong_with(row)
                if reason is not None:
                    return Break(sequence=row["sequence"], record_id=row["record_id"], reason=reason)
                self.tip = Tip(sequence=row["sequence"], row_hash=row["row_hash"])
                self.records += row["kind"] == "opened"
                self._take_names(row, named)
            for name, place in self._missing(named):
                return place.broken(f"its text {name} is gone, and no row says that it was erased")
        return None

    def _take_names(self, row: RowMapping, named: dict[str, _Place]) -> None:
        body = json.loads(row["payload"])
        place = _Place(row["sequence"], row["record_id"])
        for name in body.get("artifacts", ()):
            self.listed.setdefault(name, place)
        if row["sequence"] > self.bare_through and row["record_id"] not in self.erased:
            named |= dict.fromkeys(body.get("texts", ()), place)

    def _wrong_with(self, row: RowMapping) -> str | None:
        sequence, before = row["sequence"], row["prev_hash"]
        if self.tip.sequence == 0 and self._follows_pruned(sequence, before):
            pass  # what came before was let go, and a later row says so
        elif sequence != self.tip.sequence + 1:
            return f"row {self.tip.sequence + 1} is missing before it"
        elif before != self.tip.row_hash:
            return "it does not follow the row before it: one of the two was changed or replaced"
        if row["row_hash"] != seal(before, dict(row)):
            return "its content does not match its hash: the row was changed"
        if self.pruned and self.pruned.through == sequence and self.pruned.row_hash != row["row_hash"]:
            return f"its hash is {row['row_hash']}, the row about retention says {self.pruned.row_hash}"
        if self.known and self.known.sequence == sequence and self.known.row_hash != row["row_hash"]:
            return f"its hash is {row['row_hash']}, the noted tip says {self.known.row_hash}"
        return None

    def _follows_pruned(self, sequence: int, before: str) -> bool:
        """Whether the log may begin with this row, because those before it were let go."""
        if self.pruned is None or not 1 < sequence <= self.pruned.through + 1:
            return False
        return sequence <= self.pruned.through or before == self.pruned.row_hash

    def _missing(self, named: dict[str, _Place]) -> list[tuple[str, _Place]]:
        """Those texts that are not there and should be."""
        there = set(self.connection.scalars(select(content.c.sha256).where(content.c.sha256.in_(named))))
        gone = [(name, place) for name, place in named.items() if name not in there]
        if not gone or not self.bare_through:
            return gone
        # a row that came late, for a record whose opening row was let go with its texts
        query = select(events.c.record_id).where(
            events.c.kind == "opened",
            events.c.sequence > self.bare_through,
            events.c.record_id.in_({place.record_id for _, place in gone}),
        )
        young = set(self.connection.scalars(query))
        return [(name, place) for name, place in gone if place.record_id in young]

    def contents(self) -> Break | None:
        """Check texts and artifacts against their digests, and that no artifact is missing."""
        for entry in _streamed(self.connection, select(content.c.sha256, content.c.text)):
            self.texts += 1
            name = entry["sha256"]
            if digest(entry["text"]) != name:
                return self._holder(name).broken(f"the text {name} was changed: it no longer has that digest")
        for entry in _streamed(self.connection, select(artifacts)):
            place = self.listed.pop(entry["id"], _NOWHERE)
            body = {key: entry[key] for key in ("kind", "name", "sha256", "path")}
            if digest(canonical(body)) != entry["id"]:
                return place.broken(f"the artifact {entry['kind']} {entry['name']!r} was changed")
        for name, place in self.listed.items():
            return place.broken(f"its artifact {name} is gone")
        return None

    def _holder(self, name: str) -> _Place:
        """A row of a record that holds the text."""
        query = (
            select(events.c.sequence, events.c.record_id)
            .join(content_uses, content_uses.c.record_id == events.c.record_id)
            .where(content_uses.c.sha256 == name)
            .order_by(events.c.sequence)
        )
        row = self.connection.execute(query.limit(1)).first()
        return _Place(row.sequence, row.record_id) if row is not None else _NOWHERE

    def known_is_there(self) -> Break | None:
        """Check that the log reaches the tip noted earlier.

        Raises UsageError for a tip whose row was let go since: it can vouch for nothing any more.
        """
        if self.known is None or self.known.sequence == 0:
            return None
        if self.known.sequence > self.tip.sequence:
            reason = f"the log ends at row {self.tip.sequence}, the noted tip is row {self.known.sequence}"
            return Break(sequence=None, record_id=None, reason=reason)
        first = self.connection.scalars(select(func.min(events.c.sequence))).one()
        if self.known.sequence < first:
            raise UsageError(
                f"the noted tip is row {self.known.sequence}, and retention has let the rows before {first} "
                "go; note a newer tip"
            )
        return None


class _Place(NamedTuple):
    """Where something stands in the log."""

    sequence: int | None
    record_id: str | None

    def broken(self, reason: str) -> Break:
        return Break(sequence=self.sequence, record_id=self.record_id, reason=reason)


_NOWHERE = _Place(None, None)


def _streamed(connection: Connection, query: Select[Any]) -> Iterator[RowMapping]:
    """Rows, a few hundred at a time; a server's cursor is closed with this generator."""
    with connection.execute(query.execution_options(yield_per=CHUNK)) as found:
        yield from found.mappings()


def _chunks(rows: Iterator[RowMapping]) -> Iterator[list[RowMapping]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk
