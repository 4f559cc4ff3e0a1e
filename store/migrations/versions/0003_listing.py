"""A narrow list of the records, so that a page of it costs the same at any size."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CHUNK = 500
KEYS = (("created_at",), ("status", "created_at"), ("thread_id", "created_at"), ("specialists", "created_at"))


def upgrade() -> None:
    """Make the list, and fill it from the rows."""
    op.create_table(
        "listing",
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("record_id", _name(64), nullable=False),
        sa.Column("thread_id", _name(255), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("specialists", sa.Text(), nullable=False),
        sa.Column("p_correct", sa.Float(), nullable=True),
        sa.Column("total_ms", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_listing"),
        sa.UniqueConstraint("record_id", name="uq_listing_record_id"),
        sa.ForeignKeyConstraint(
            ["sequence"], ["events.sequence"], name="fk_listing_sequence_events", ondelete="CASCADE"
        ),
    )
    _fill(op.get_bind())
    for columns in KEYS:
        names = [*columns, "sequence"]
        op.create_index(f"ix_listing_{'_'.join(names)}", "listing", names)


def _name(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length) if op.get_bind().dialect.name == "sqlite" else sa.Text()


def _fill(connection: sa.Connection) -> None:
    opened = sa.table(
        "events",
        *map(
            sa.column,
            ("sequence", "kind", "record_id", "thread_id", "created_at", "status", "specialists", "payload"),
        ),
    )
    closed = opened.alias("closed")
    own = ("sequence", "record_id", "thread_id", "created_at")
    query = (
        sa.select(
            *(opened.c[name] for name in own),
            opened.c.status.label("begun"),
            closed.c.status,
            closed.c.specialists,
            closed.c.payload,
        )
        .outerjoin(closed, sa.and_(closed.c.record_id == opened.c.record_id, closed.c.kind == "closed"))
        .where(opened.c.kind == "opened")
        .order_by(opened.c.sequence)
        .limit(CHUNK)
    )
    listing = sa.table("listing", *map(sa.column, (*own, "status", "specialists", "p_correct", "total_ms")))
    last = 0
    while rows := connection.execute(query.where(opened.c.sequence > last)).mappings().all():
        lines = [
            {name: row[name] for name in own}
            | {"status": row["status"] or row["begun"], "specialists": row["specialists"] or ""}
            | _told(json.loads(row["payload"])["parts"] if row["payload"] else [])
            for row in rows
        ]
        connection.execute(sa.insert(listing), lines)
        last = rows[-1]["sequence"]


def _told(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The first part's P(correct), and the parts' milliseconds."""
    made = [part["generation"] for part in parts if part.get("generation")]
    total = sum(one["timings"]["total_ms"] for one in made)
    if not parts:
        return {"p_correct": None, "total_ms": total}
    first = parts[0]
    name = (first.get("generation") or {}).get("specialist") or (first.get("decision") or {}).get("chosen")
    beliefs = {one["specialist"]: one["p_correct"] for one in first.get("candidates", ())}
    return {"p_correct": beliefs.get(name), "total_ms": total}
