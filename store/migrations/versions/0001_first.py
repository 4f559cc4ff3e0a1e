"""The first schema: a hash-chained log, with its texts apart from it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table, and the row that writers lock."""
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.execute("INSERT INTO meta (key, value) VALUES ('chain', 'sha256')")
    _events()
    _content()
    op.create_table(
        "artifacts",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_artifacts"),
    )
    op.create_table(
        "running",
        sa.Column("record_id", sa.String(64), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("record_id", name="pk_running"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("record_id", sa.String(64), nullable=False),
        sa.Column("thread_id", sa.String(255), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("specialists", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.String(64), nullable=False),
        sa.Column("row_hash", sa.String(64), nullable=False),
        sa.CheckConstraint("kind IN ('opened', 'closed', 'outcome', 'erased')", name=op.f("ck_events_kind")),
        sa.PrimaryKeyConstraint("sequence", name="pk_events"),
        sa.UniqueConstraint("prev_hash", name="uq_events_prev_hash"),
        sa.UniqueConstraint("row_hash", name="uq_events_row_hash"),
    )
    op.create_index("ix_events_record_id_kind", "events", ["record_id", "kind"])
    op.create_index("ix_events_thread_id_sequence", "events", ["thread_id", "sequence"])
    op.create_index("ix_events_kind_created_at", "events", ["kind", "created_at"])
    for kind in ("opened", "closed"):
        once = sa.text(f"kind = '{kind}'")
        op.create_index(
            f"uq_events_{kind}",
            "events",
            ["record_id"],
            unique=True,
            sqlite_where=once,
            postgresql_where=once,
        )


def _content() -> None:
    op.create_table(
        "content",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_content"),
        sa.UniqueConstraint("sha256", name="uq_content_sha256"),
    )
    op.create_table(
        "content_uses",
        sa.Column("record_id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["sha256"], ["content.sha256"], name="fk_content_uses_sha256_content", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("record_id", "sha256", name="pk_content_uses"),
    )
    op.create_index("ix_content_uses_sha256", "content_uses", ["sha256"])
