"""The store that is being made: marked until it is whole, and how far it has come is written down in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql

from gateway.store import layout, locks, restore_mark
from gateway.store.connections import Connections
from gateway.store.copying import CopyError, source, tables
from gateway.store.schema import migrate, status

_MOST_NAMED = 3
_COPIED_AT = "copied_at"

_PROGRESS = """
CREATE TABLE {} (
    name text NOT NULL,
    lower timestamptz,
    upper timestamptz,
    rows bigint NOT NULL
)
"""
_SAYS = "What a copy of another store has put here so far, by slices. Removed when it is done."
_ANOTHER = (
    "another copy into the target is under way; one that was just broken off may be so for a minute, until its server "
    "hears of it"
)
_FOUND = """
SELECT coalesce(
    (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = coalesce(to_regclass('store_setting'), to_regclass(%s))),
    current_schema())
"""


def begin(connections: Connections) -> bool:
    """Mark a database as being copied into, unless it is. Returns whether an earlier copy is gone on with.

    Raises `CopyError` where it holds what no copy has put there or the hub uses it, `SchemaError` where that is a newer
    version's.
    """
    status(connections)  # which refuses one of a newer version
    with connections.open({"application_name": source.APPLICATION}) as connection:
        if found := source.users(connection):
            raise CopyError(
                f"the hub uses the database that is to be copied into: {', '.join(found)}. Stop it there, and let no "
                "gateway use that database before the copy is done"
            )
        marked = restore_mark.is_unfinished(connection)
        begun = connection.execute("SELECT to_regclass(%s)", (tables.PROGRESS,)).fetchone() != (None,)
        if marked and not begun:
            raise CopyError(
                "a restore into the target is under way, or was broken off; begin that again, or name an empty database"
            )
        if marked:
            return True
        _check_empty(connection)
        schema = schema_of(connection)
        try:
            with connection.transaction():
                restore_mark.mark(connection, schema)
                name = sql.Identifier(schema, tables.PROGRESS)
                connection.execute(sql.SQL(_PROGRESS).format(name))
                connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(name, sql.Literal(_SAYS)))
        except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable) as error:
            raise CopyError(_ANOTHER) from error  # begun at the same moment
        return False


def schema_of(connection: layout.Connection) -> str:
    """Return the schema that the store is in, or is to be."""
    row = connection.execute(_FOUND, (restore_mark.TABLE,)).fetchone()
    if row is None or row[0] is None:
        raise CopyError("the search_path of the target names no schema that is there: make it, or name another")
    return str(row[0])


def _check_empty(connection: layout.Connection) -> None:
    """Raise `CopyError` unless there is no store, or one without a record."""
    present = layout.current(connection)
    if present is None:
        return
    full = [
        table.name
        for table in tables.find(connection, present)
        if table.name != "dimension_epoch" and _has_rows(connection, table.name)
    ]
    if not full:
        return
    more = f" and {len(full) - _MOST_NAMED} more" if len(full) > _MOST_NAMED else ""
    holds = f"the target has a store that holds records already (in {', '.join(full[:_MOST_NAMED])}{more})"
    if at := layout.read_setting(connection, _COPIED_AT):
        raise CopyError(
            f"{holds}; a copy into it was finished at {at}, compared and whole, and gateways may use it. To copy once "
            "more, name an empty database (createdb), or a new data directory"
        )
    raise CopyError(
        f"{holds}. Name an empty database (createdb), or a new data directory, and let no gateway use it before "
        "the copy is done"
    )


def _has_rows(connection: layout.Connection, table: str) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(table))
    return connection.execute(query).fetchone() == (True,)


def make(connections: Connections, wanted: str, chunk_interval: timedelta) -> layout.Layout:
    """Make the store that is copied into, or bring it up to date. Raises as `migrate` does."""
    present = migrate(connections, wanted, unfinished=True)
    if not present.native:
        with connections.open() as connection:
            for table in (*layout.FACTS, *layout.ROLLUPS):
                connection.execute("SELECT set_chunk_time_interval(%s::regclass, %s)", (table, chunk_interval))
    return present


@contextmanager
def alone(connections: Connections) -> Iterator[layout.Connection]:
    """Be the only one that writes to the target, for the length of a block, in whose transaction the mark is held.

    A gateway that used it before and comes back waits, as if the database were away; it looks for the mark itself.
    """
    with connections.open({"application_name": source.APPLICATION}) as guard, guard.transaction():
        if not restore_mark.hold(guard, schema_of(guard)):
            raise CopyError(_ANOTHER)
        try:
            locks.hold(guard, locks.Lock.DIMENSIONS)
        except psycopg.errors.LockNotAvailable as error:
            raise CopyError("a gateway writes to the target; stop it, and run this again") from error
        if not copied(guard):  # nobody has written to it meanwhile
            _check_empty(guard)
        yield guard


def finish(guard: layout.Connection) -> None:
    """Say that the store is whole, at the end of the transaction."""
    schema = schema_of(guard)
    layout.write_setting(guard, _COPIED_AT, json.dumps(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"))
    guard.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(schema, tables.PROGRESS)))
    restore_mark.remove(guard, schema)


def copied(connection: layout.Connection) -> dict[tuple[str, tables.Slice], int]:
    """Return how many rows of which slices have been copied."""
    query = sql.SQL("SELECT name, lower, upper, rows FROM {}").format(sql.Identifier(tables.PROGRESS))
    return {(name, tables.Slice(lower, upper)): rows for name, lower, upper, rows in connection.execute(query)}


def note(connection: layout.Connection, table: str, part: tables.Slice, rows: int | None) -> None:
    """Write down that a slice is copied, in the transaction of its rows; None: that it is not there any more."""
    name = sql.Identifier(tables.PROGRESS)
    which = {"name": table, "lower": part.lower, "upper": part.upper, "rows": rows}
    connection.execute(
        sql.SQL(
            "DELETE FROM {} WHERE name = %(name)s AND lower IS NOT DISTINCT FROM %(lower)s"
            " AND upper IS NOT DISTINCT FROM %(upper)s"
        ).format(name),
        which,
    )
    if rows is not None:
        insert = sql.SQL("INSERT INTO {} VALUES (%(name)s, %(lower)s, %(upper)s, %(rows)s)")
        connection.execute(insert.format(name), which)
