"""A store that is being restored or copied, or whose restore was broken off, is marked as such until it is whole.

The mark is a table that no backup has. Whoever restores or copies holds a lock on it, so that it can be told whether it
is being worked on, and removes it in the end.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from gateway.store.layout import Connection

TABLE = "store_restoring"
MESSAGE = (
    "the store in this database is not whole: a restore or a copy into it is under way, or was broken off. Wait for "
    "it, or run `obs-hub db restore FILE` again, which begins anew, or `obs-hub store copy`, which goes on where it was"
)


def is_unfinished(connection: Connection, schema: str | None = None) -> bool:
    """Tell whether the store of a schema (the one that is found without a name, by default) is not whole."""
    row = connection.execute(
        "SELECT to_regclass(CASE WHEN %(schema)s::text IS NULL THEN %(table)s"
        " ELSE quote_ident(%(schema)s) || '.' || %(table)s END) IS NOT NULL",
        {"schema": schema, "table": TABLE},
    ).fetchone()
    return row == (True,)


def mark(connection: Connection, schema: str) -> None:
    """Mark the store of a schema, unless it is marked already."""
    table = sql.Identifier(schema, TABLE)
    connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ()").format(table))
    comment = "COMMENT ON TABLE {} IS 'The store is being restored or copied, or that was broken off: it is not whole.'"
    connection.execute(sql.SQL(comment).format(table))


def hold(connection: Connection, schema: str) -> bool:
    """Lock the mark for the rest of the transaction. Returns False when somebody else is restoring."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE NOWAIT").format(sql.Identifier(schema, TABLE)))
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def remove(connection: Connection, schema: str) -> None:
    """Say that the store is whole."""
    connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(schema, TABLE)))
