"""The store that is copied: whether gateways use it, and keeping them from writing to it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psycopg
from psycopg import sql

from gateway.store import layout, locks
from gateway.store.copying import CopyError
from gateway.store.copying.tables import Table

APPLICATION = "obs-hub store copy"
"""What the connections of a copy call themselves."""

_LEAVING = 3.0
"""Seconds in which PostgreSQL's side of a connection that was just closed, such as a stopped gateway's, may end."""

_GATEWAYS = """
SELECT DISTINCT format('pid %%s (%%s, %%s)', pid, application_name, coalesce(host(client_addr), 'socket'))
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend'
    AND application_name LIKE 'obs-hub%%' AND application_name NOT LIKE %s
ORDER BY 1
"""
_WAITING = """
SELECT DISTINCT format('pid %%s (%%s, %%s)', a.pid, a.application_name, coalesce(host(a.client_addr), 'socket'))
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE NOT l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.relation = ANY(SELECT to_regclass(name) FROM unnest(%s::text[]) AS known (name))
ORDER BY 1
"""


def check_quiet(connection: layout.Connection) -> None:
    """Raise `CopyError` while gateways, or commands of the hub, are connected to the store that is copied."""
    if found := users(connection):
        raise CopyError(
            f"the hub uses the store that is to be copied: {', '.join(found)}. Stop its gateways first; or copy "
            "what there is with --while-running, then stop them and run this again without it, which copies what "
            "has come since"
        )


def users(connection: layout.Connection) -> list[str]:
    """Return which gateways, or commands of the hub, are connected to a store, and do not leave within moments."""
    deadline = time.monotonic() + _LEAVING
    while found := [row[0] for row in connection.execute(_GATEWAYS, (f"{APPLICATION}%",))]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return found


def hold(connection: layout.Connection, present: layout.Layout, tables: Iterable[Table]) -> None:
    """Keep a store as it is for the rest of the transaction: nothing is written, rolled up, dropped or migrated.

    Whoever tries waits, and gives up as if the database were away. Reading goes on, but not behind a job of
    TimescaleDB's that waits to drop a chunk. Raises `CopyError`, and `psycopg.Error` while one of its jobs is at work.
    """
    if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
        raise CopyError(
            "the store that is to be copied is on a standby, where nobody can be kept from writing to it; name the "
            "primary, or copy what there is with --while-running"
        )
    try:
        for lock in locks.Lock:
            locks.hold(connection, lock)
    except psycopg.errors.LockNotAvailable as error:
        raise CopyError(
            "somebody writes to the store that is to be copied, and did not end within the lock_timeout; stop the "
            "gateways, and run this again"
        ) from error
    if not present.native:
        # Its jobs drop and compress chunks, whoever is connected. Compressing asks for this lock, too, before it asks
        # for one that reading would wait behind.
        names = sql.SQL(", ").join(sql.Identifier(table.name) for table in tables if table.by_time)
        connection.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(names))


def waiting(connection: layout.Connection) -> list[str]:
    """Return who waits to write to the store that is held."""
    return [row[0] for row in connection.execute(_WAITING, ([str(lock) for lock in locks.Lock],))]
