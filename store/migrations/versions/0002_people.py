"""Whose record it is, where the caller said so; no limit on the length of names on PostgreSQL."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# SQLite checks no length; there, a change of type would copy every table
UNLIMITED = (
    ("events", "record_id", 64),
    ("events", "thread_id", 255),
    ("content_uses", "record_id", 64),
    ("running", "record_id", 64),
)


def upgrade() -> None:
    """Add the table of people."""
    op.create_table(
        "people",
        sa.Column("record_id", _name(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("record_id", name="pk_people"),
    )
    op.create_index("ix_people_person", "people", ["person"])
    if op.get_bind().dialect.name == "sqlite":
        return
    for table, column, length in UNLIMITED:
        op.alter_column(
            table, column, type_=sa.Text(), existing_type=sa.String(length), existing_nullable=False
        )


def _name() -> sa.types.TypeEngine[str]:
    return sa.String(64) if op.get_bind().dialect.name == "sqlite" else sa.Text()
