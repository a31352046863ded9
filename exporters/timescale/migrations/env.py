"""Alembic's entry point: runs the migrations on the connection that `exporters.timescale.schema` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=None,
    version_table="schema_version",
)
with context.begin_transaction():
    context.run_migrations()
