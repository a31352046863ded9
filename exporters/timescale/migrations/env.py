"""Alembic's entry point: runs a migration in the transaction that `exporters.timescale.schema` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=None,
    version_table="schema_version",
)
context.run_migrations()
