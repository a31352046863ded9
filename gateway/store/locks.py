"""The named locks of a store, by which gateways take turns.

Each is an empty table that readers have no right on, and holding it is ``LOCK TABLE``: it ends with the transaction and
writes nothing. An advisory lock could be taken by anybody who may log in, so that one SELECT of a reader would stop all
writing, and one of a session does not work behind a pooler.
"""

from __future__ import annotations

import enum
import functools

import psycopg
from psycopg import sql

from gateway.store.layout import Connection


class Lock(enum.StrEnum):
    """What is locked. The value is the name of its table."""

    MIGRATION = "lock_migration"
    MAINTENANCE = "lock_upkeep"
    DIMENSIONS = "lock_dimensions"
    PARTITIONS = "lock_partitions"


_MAINTENANCE_WITHOUT_FRAMES = "lock_maintenance"
_ATTEMPTS = 5


def make(connection: Connection) -> None:
    """Make the tables that are missing. Several gateways may at once; not to be called in a transaction.

    They are no part of a migration, for migrations are what the first of them is held for.
    """
    for lock in Lock:
        for attempt in range(_ATTEMPTS):
            if connection.execute("SELECT to_regclass(%s)", (lock.value,)).fetchone() != (None,):
                break
            try:
                with connection.transaction():
                    connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ()").format(sql.Identifier(lock)))
                    connection.execute(
                        sql.SQL("COMMENT ON TABLE {} IS {}").format(
                            sql.Identifier(lock),
                            sql.Literal("Always empty: gateways lock it to take turns. Readers have no right on it."),
                        )
                    )
                break
            except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject):
                if attempt == _ATTEMPTS - 1:  # somebody else is making it, and has ended by now
                    raise


def retire(connection: Connection) -> None:
    """Leave nothing that could be locked where gateways that know no frames look for the lock of maintenance.

    They may go on writing. Their rollups would be made without what is in frames, and strike off what is to be rolled
    up; and they would remove series that nothing but frames refers to. In place of the table is something else of its
    name, so that no start of theirs makes it again.
    """
    found = "SELECT relkind = 'r' FROM pg_class WHERE oid = to_regclass(%s)"
    if connection.execute(found, (_MAINTENANCE_WITHOUT_FRAMES,)).fetchone() != (True,):
        return
    name = sql.Identifier(_MAINTENANCE_WITHOUT_FRAMES)
    connection.execute(sql.SQL("DROP TABLE {}").format(name))
    connection.execute(sql.SQL("CREATE TYPE {} AS ()").format(name))
    connection.execute(
        sql.SQL("COMMENT ON TYPE {} IS {}").format(
            name, sql.Literal("Nothing: it keeps gateways that know no frames from maintaining the store.")
        )
    )


def hold(connection: Connection, lock: Lock, *, shared: bool = False) -> None:
    """Take a lock for the rest of the transaction; wait for those that hold it. Shared, others may share it.

    Raises `psycopg.errors.LockNotAvailable` after the ``lock_timeout`` of the session.
    """
    connection.execute(_statement(lock, shared=shared))


def try_hold(connection: Connection, lock: Lock) -> bool:
    """Take a lock for the rest of the transaction if nobody holds it. Returns whether it was taken."""
    try:
        with connection.transaction():  # a savepoint: what was refused would end the transaction
            connection.execute(_statement(lock) + b" NOWAIT")
    except psycopg.errors.LockNotAvailable:
        return False
    return True


@functools.cache
def _statement(lock: Lock, *, shared: bool = False) -> bytes:
    # Neither mode keeps out ACCESS SHARE, which a backup takes on every table.
    mode = sql.SQL("ROW SHARE" if shared else "EXCLUSIVE")
    return sql.SQL("LOCK TABLE {} IN {} MODE").format(sql.Identifier(lock), mode).as_bytes()
