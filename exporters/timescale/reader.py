"""The role that queries run as, which may read the store and do nothing else."""

from __future__ import annotations

import psycopg
from psycopg import sql

from exporters.timescale import layout
from exporters.timescale.schema import READER_ROLE


def let_read(connection: layout.Connection, schema: str | None = None, owner: str | None = None) -> None:
    """Make the role where this user may, and let it read a schema: this connection's own unless one is named.

    ``owner`` is the user that writes to the store, this one unless another is named. A role is one for all databases of
    a server.
    """
    role = sql.Identifier(READER_ROLE)
    writer = sql.SQL("CURRENT_USER") if owner is None else sql.Identifier(owner)
    try:
        with connection.transaction():
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (READER_ROLE,)).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        pass  # another database of this server is being migrated at this moment
    except psycopg.errors.InsufficientPrivilege:
        return
    try:
        with connection.transaction():
            row = connection.execute("SELECT coalesce(%s, current_schema())", (schema,)).fetchone()
            assert row is not None
            name = sql.Identifier(row[0])
            connection.execute(sql.SQL("GRANT {} TO {}").format(role, writer))
            connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(name, role))
            connection.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(name, role))
            connection.execute(
                sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT SELECT ON TABLES TO {}").format(
                    writer, name, role
                )
            )
    except psycopg.errors.InsufficientPrivilege:
        pass  # the role belongs to someone else: `obs-hub query` then relies on a read-only transaction alone


def let_read_tables(connection: layout.Connection, *tables: str) -> None:
    """Let the role read tables that a later migration made, where there is the role."""
    names = sql.SQL(", ").join(map(sql.Identifier, tables))
    try:
        with connection.transaction():
            connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(names, sql.Identifier(READER_ROLE)))
    except psycopg.errors.UndefinedObject:
        pass  # the first migration was not allowed to make it
