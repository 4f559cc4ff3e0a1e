"""Recompute the chain and the digests of the texts; name the first thing that is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sqlalchemy import Connection, RowMapping, select

from .errors import UsageError
from .hashes import GENESIS, canonical, digest, seal
from .records import Count, Digest, Frozen
from .tables import artifacts, content, events


class Break(Frozen):
    """Where the log stops agreeing with itself. `sequence` is None for a text or artifact without a row."""

    sequence: int | None
    record_id: str | None
    reason: str


class Verification(Frozen):
    """What `verify` found: `tip` is `SEQUENCE:HASH` of the last row, to be kept where this log's writers
    cannot reach."""

    ok: bool
    rows: Count
    records: Count
    texts: Count
    tip: str
    broken: Break | None = None


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
    walk = _Walk(known)
    broken = walk.rows(connection) or walk.contents(connection) or walk.known_is_there()
    return Verification(
        ok=broken is None,
        rows=walk.tip.sequence,
        records=walk.records,
        texts=walk.texts,
        tip=str(walk.tip),
        broken=broken,
    )


class _Walk:
    """One pass over the log, with what it has seen."""

    def __init__(self, known: Tip | None) -> None:
        self.known = known
        self.tip = Tip(sequence=0, row_hash=GENESIS)
        self.records = self.texts = 0
        # texts and artifacts that rows name, each with the first row that does
        self.named: dict[str, RowMapping] = {}
        self.listed: dict[str, RowMapping] = {}

    def rows(self, connection: Connection) -> Break | None:
        """Walk the chain; return the first broken row."""
        erased = set(connection.scalars(select(events.c.record_id).where(events.c.kind == "erased")))
        for row in _streamed(connection):
            reason = self._wrong_with(row)
            if reason is not None:
                return Break(sequence=row["sequence"], record_id=row["record_id"], reason=reason)
            self.tip = Tip(sequence=row["sequence"], row_hash=row["row_hash"])
            self.records += row["kind"] == "opened"
            body = json.loads(row["payload"])
            for name in body.get("artifacts", ()):
                self.listed.setdefault(name, row)
            if row["record_id"] not in erased:
                for name in body.get("texts", ()):
                    self.named.setdefault(name, row)
        return None

    def _wrong_with(self, row: RowMapping) -> str | None:
        if row["sequence"] != self.tip.sequence + 1:
            return f"row {self.tip.sequence + 1} is missing before it"
        if row["prev_hash"] != self.tip.row_hash:
            return "it does not follow the row before it: one of the two was changed or replaced"
        if row["row_hash"] != seal(row["prev_hash"], dict(row)):
            return "its content does not match its hash: the row was changed"
        if self.known and self.known.sequence == row["sequence"] and self.known.row_hash != row["row_hash"]:
            return f"its hash is {row['row_hash']}, the noted tip says {self.known.row_hash}"
        return None

    def contents(self, connection: Connection) -> Break | None:
        """Check texts and artifacts against their digests, and that none is missing."""
        texts = select(content.c.sha256, content.c.text).execution_options(yield_per=500)
        for name, text in connection.execute(texts):
            self.texts += 1
            row = self.named.pop(name, None)
            if digest(text) != name:
                return _break(row, f"the text {name} was changed: it no longer has that digest")
        for name, row in self.named.items():
            return _break(row, f"its text {name} is gone, and no row says that it was erased")
        for entry in connection.execute(select(artifacts)).mappings():
            row = self.listed.pop(entry["id"], None)
            body = {key: entry[key] for key in ("kind", "name", "sha256", "path")}
            if digest(canonical(body)) != entry["id"]:
                return _break(row, f"the artifact {entry['kind']} {entry['name']!r} was changed")
        for name, row in self.listed.items():
            return _break(row, f"its artifact {name} is gone")
        return None

    def known_is_there(self) -> Break | None:
        """Check that the log reaches the tip noted earlier."""
        if self.known is None or self.known.sequence <= self.tip.sequence:
            return None
        reason = f"the log ends at row {self.tip.sequence}, the noted tip is row {self.known.sequence}"
        return Break(sequence=None, record_id=None, reason=reason)


def _break(row: RowMapping | None, reason: str) -> Break:
    sequence, record_id = (row["sequence"], row["record_id"]) if row is not None else (None, None)
    return Break(sequence=sequence, record_id=record_id, reason=reason)


def _streamed(connection: Connection) -> Iterator[RowMapping]:
    query = select(events).order_by(events.c.sequence).execution_options(yield_per=500)
    yield from connection.execute(query).mappings()
