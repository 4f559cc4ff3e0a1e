"""Alembic's entry: run the migrations on the connection, and in the transaction, that the opener gives."""

from alembic import context

given = context.config.attributes
context.configure(
    connection=given["connection"],
    target_metadata=given["metadata"],
    version_table=given["version_table"],
    render_as_batch=True,  # SQLite cannot alter a table in place
    transactional_ddl=True,  # one transaction, ours: all of the migration or nothing
)
with context.begin_transaction():
    context.run_migrations()
