"""The log's tables.

`events` is the log itself: append-only, hash-chained, four kinds of row (opened, closed, outcome, erased).
Every other table serves it: `content` holds the texts by digest, so that they can be erased while the rows
stand; `content_uses` says which record holds which text; `artifacts` spells out the artifact lists;
`running` names the records still open and the process that writes them; `people` says whose record it is,
where the caller said so; `listing` has one narrow row a record, for lists; `meta` holds a few facts about
the log.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.types import TypeEngine

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMES)

_MARK = "\ufffe"  # no character of any text, so rare enough to write other characters with


class AnyText(TypeDecorator[str]):
    """Text that may hold a NUL, which PostgreSQL refuses: there, it is written as U+FFFE 0 (and U+FFFE as
    U+FFFE 1), in a column without a limit. The length is a hint for SQLite, which checks none.
    """

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """TEXT, unless a length is given to a database that does not enforce it."""
        limited = dialect.name != "postgresql" and self.length is not None
        return dialect.type_descriptor(String(self.length) if limited else Text())

    def bind_processor(self, dialect: Dialect) -> Any:
        """Nothing to do for a database that takes any text: a call a value would cost more than the value."""
        return super().bind_processor(dialect) if dialect.name == "postgresql" else None

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """As `bind_processor`."""
        return super().result_processor(dialect, coltype) if dialect.name == "postgresql" else None

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """To the database."""
        if dialect.name != "postgresql" or value is None:
            return value
        return value.replace(_MARK, f"{_MARK}1").replace("\x00", f"{_MARK}0")

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """From the database."""
        if dialect.name != "postgresql" or value is None or _MARK not in value:
            return value
        return value.replace(f"{_MARK}0", "\x00").replace(f"{_MARK}1", _MARK)


meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("record_id", AnyText(64), nullable=False),
    Column("thread_id", AnyText(255), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    # `,arithmetic,facts,`: commas on both sides, so that one LIKE finds a whole name
    Column("specialists", AnyText(), nullable=False),
    Column("payload", Text, nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("row_hash", String(64), nullable=False),
    CheckConstraint("kind IN ('opened', 'closed', 'outcome', 'erased')", name="kind"),
)
Index(None, events.c.record_id, events.c.kind)
Index(None, events.c.thread_id, events.c.sequence)
Index(None, events.c.kind, events.c.created_at)
# A record is opened once and closed once, whoever tries. PostgreSQL is told where it is known (postgres.py):
# naming its option here would load its dialect for whoever reads a file.
for _kind in ("opened", "closed"):
    _once = text(f"kind = '{_kind}'")
    Index(f"uq_events_{_kind}", events.c.record_id, unique=True, sqlite_where=_once)

content = Table(
    "content",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("text", AnyText(), nullable=False),
)

content_uses = Table(
    "content_uses",
    metadata,
    Column("record_id", AnyText(64), primary_key=True),
    Column("sha256", String(64), ForeignKey("content.sha256", ondelete="CASCADE"), primary_key=True),
)
Index(None, content_uses.c.sha256)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", String(64), primary_key=True),  # the digest of the other four columns
    Column("kind", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("path", Text, nullable=False),
)

people = Table(
    "people",
    metadata,
    Column("record_id", AnyText(64), primary_key=True),
    Column("person", AnyText(), nullable=False),
)
Index(None, people.c.person)

# One narrow row a record, for lists; it says nothing that `events` does not.
listing = Table(
    "listing",
    metadata,
    Column(
        "sequence",
        Integer,
        ForeignKey("events.sequence", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("record_id", AnyText(64), nullable=False, unique=True),
    Column("thread_id", AnyText(255), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("specialists", AnyText(), nullable=False),
    Column("p_correct", Float),
    Column("total_ms", Float, nullable=False),
)
Index(None, listing.c.created_at, listing.c.sequence)
Index(None, listing.c.status, listing.c.created_at, listing.c.sequence)
Index(None, listing.c.thread_id, listing.c.created_at, listing.c.sequence)
Index(None, listing.c.specialists, listing.c.created_at, listing.c.sequence)

running = Table(
    "running",
    metadata,
    Column("record_id", AnyText(64), primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", Integer),
)
