"""The schema of a store, brought up to date.

Several gateways may start at once on one empty database: whoever gets the lock makes the next migration, the others
wait and find it done.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.store import layout, locks, restore_mark
from gateway.store.connections import Connections
from gateway.store.migrations import MAINTAINS_FROM, WRITES_FROM, Migration, all_migrations
from gateway.store.postgres import plan
from gateway.store.reader import READER_ROLE as READER_ROLE
from gateway.store.reader import let_read


class SchemaError(Exception):
    """The schema of this database cannot be used by this version of the gateway."""


@dataclass(slots=True, frozen=True)
class Status:
    """Which migrations a store has and lacks, oldest first, its layout, and whether a restore of it is not done.

    ``newer`` is the number of its last migration where that is one of a later version, which this one can write to.
    """

    applied: list[str]
    pending: list[str]
    layout: layout.Layout | None
    unfinished: bool = False
    newer: str | None = None


def migrate(connections: Connections, wanted_layout: str = "auto", *, unfinished: bool = False) -> layout.Layout:
    """Bring the schema up to date and return the layout of the store. ``unfinished``: though it is not whole.

    A schema of a later version is left as it is, where that says that gateways of this version can write to it.

    Raises `SchemaError` when the schema is too new for this gateway or the store is not whole, `layout.LayoutError`
    when the layout is not to be had, and `psycopg.Error` when the database is not reachable or refuses, or when a lock
    is not to be had in time. No statement has a limit of its own: an index on much data takes its time.
    """
    migrations = all_migrations()
    with connections.lasting() as connection:
        _require_found(connection, connections.dsn)
        if not unfinished and restore_mark.is_unfinished(connection):
            raise SchemaError(restore_mark.MESSAGE)
        locks.make(connection)
        connection.autocommit = False
        while not _advance(connection, migrations, wanted_layout):
            pass
        present = layout.current(connection)
        assert present is not None, "the first migration records the layout"
        if wanted_layout not in ("auto", present.name):
            raise layout.LayoutError(
                f"layout: {wanted_layout} is configured, but this store was made with layout {present.name} and a "
                "store keeps its layout; use a new database, or set layout: auto"
            )
        return present


def status(connections: Connections) -> Status:
    """Return the state of the schema without changing it.

    Raises `SchemaError` when the schema is too new for this gateway, or the store is where nobody looks for it.
    """
    migrations = all_migrations()
    with connections.open() as connection:
        _require_found(connection, connections.dsn)
        if restore_mark.is_unfinished(connection):
            return Status([], [], None, unfinished=True)
        done = _count_applied(connection, migrations)
        described = [migration.describe() for migration in migrations]
        newer = _newer(connection, migrations)
        return Status(described[:done], described[done:], layout.current(connection), newer=newer)


_COMPATIBLE = "compatible"
"""The setting that tells gateways of earlier versions what they may still do with a store at a certain migration."""


def may_maintain(connection: layout.Connection) -> bool:
    """Tell whether gateways of this version know of all that there is to maintain in a store, which may be newer."""
    migrations = all_migrations()
    newer = _newer(connection, migrations)
    return newer is None or _may(connection, "maintain", newer, migrations)


def _newer(connection: layout.Connection, migrations: Sequence[Migration]) -> str | None:
    """Return at which migration a store is that is none of these; None where it is at one of them, or at none."""
    if connection.execute("SELECT to_regclass('schema_version')").fetchone() == (None,):
        return None
    at = {row[0] for row in connection.execute("SELECT version_num FROM schema_version")}
    return ", ".join(sorted(at - {migration.revision for migration in migrations})) or None


def _may(
    connection: layout.Connection, do: Literal["write", "maintain"], newer: str, migrations: Sequence[Migration]
) -> bool:
    """Tell whether a store at a later migration lets gateways do something whose last one is the last of these."""
    noted = layout.read_setting(connection, _COMPATIBLE) or {}
    return noted.get("at") == newer and noted[do] <= migrations[-1].revision


_STORES_ELSEWHERE = """
SELECT n.nspname, current_setting('search_path')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'schema_version' AND c.relkind = 'r' AND to_regclass('schema_version') IS NULL
    AND EXISTS (SELECT FROM pg_class s WHERE s.relnamespace = n.oid AND s.relname = 'store_setting')
ORDER BY 1
"""


def _require_found(connection: layout.Connection, dsn: str) -> None:
    """Raise `SchemaError` where a database has a store, and the search path leads past it: a second one would be made.

    A schema that the connection string itself names is meant: it may have a store of its own.
    """
    if plan(dsn).search_path is not None:
        return
    if stores := connection.execute(_STORES_ELSEWHERE).fetchall():
        schemas = [schema for schema, _ in stores]
        raise SchemaError(
            f"this database has a store in schema {', '.join(schemas)}, and the search_path of this user and database "
            f"({stores[0][1]}) does not lead there; to use it, name it in the connection string, by "
            f"options=-csearch_path={schemas[0]}; for another store beside it, name another schema so"
        )


def _count_applied(connection: layout.Connection, migrations: Sequence[Migration]) -> int:
    """Return how many of the migrations the store has, which is at one of them, at none, or at a later one."""
    if connection.execute("SELECT to_regclass('schema_version')").fetchone() == (None,):
        return 0
    if (newer := _newer(connection, migrations)) is not None:
        if _may(connection, "write", newer, migrations):
            return len(migrations)
        raise SchemaError(
            f"the schema of this database is at version {newer}, which this gateway does not know: "
            "it was made by a newer one; upgrade this gateway"
        )
    at = [row[0] for row in connection.execute("SELECT version_num FROM schema_version")]
    known = [migration.revision for migration in migrations]
    return max((known.index(revision) + 1 for revision in at), default=0)


def _advance(connection: layout.Connection, migrations: Sequence[Migration], wanted_layout: str) -> bool:
    """Make the next migration that is missing, in a transaction; after it, it may be another gateway's turn.

    Return whether none was missing; if so, what readers may has been seen to.
    """
    with connection.transaction():
        _take_turn(connection)
        done = _count_applied(connection, migrations)
        if done == len(migrations):
            if _newer(connection, migrations) is None:
                let_read(connection)
                _note_compatibility(connection, migrations)
            return True
        if done == 0:
            connection.execute(_SCHEMA_VERSION)
        connection.execute(_TRIGGERS_RUN)
        migrations[done].upgrade(connection, wanted_layout)
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES (%s)", (migrations[done].revision,))
        if done + 1 == len(migrations):
            _note_compatibility(connection, migrations)
        return False


def _note_compatibility(connection: layout.Connection, migrations: Sequence[Migration]) -> None:
    wanted = {"at": migrations[-1].revision, "write": WRITES_FROM, "maintain": MAINTAINS_FROM}
    if layout.read_setting(connection, _COMPATIBLE) != wanted:
        locks.retire(connection)  # a store that got its frames before this was known
        layout.write_setting(connection, _COMPATIBLE, json.dumps(wanted))


_SCHEMA_VERSION = """
CREATE TABLE IF NOT EXISTS schema_version (
    version_num varchar(32) NOT NULL CONSTRAINT schema_version_pkc PRIMARY KEY
)
"""
"""As Alembic has it, which earlier versions of the gateway read the version by."""


_TRIGGERS_RUN = """
SELECT set_config('session_replication_role', 'origin', true)
WHERE current_setting('session_replication_role') <> 'origin'
    AND has_parameter_privilege('session_replication_role', 'SET')
"""
"""TimescaleDB keeps its catalogs by triggers. A role or a database may have them off, and not everybody may turn them
on: a migration that cannot do without says so."""


_BESIDE_THE_STORE = """
SELECT set_config('search_path', format('%I, %s', n.nspname, current_setting('search_path')), true)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass('store_setting') AND n.nspname <> current_schema()
"""
"""What a migration adds belongs where the store is, though a role's search path may have changed since it was made."""


def _take_turn(connection: layout.Connection) -> None:
    """Wait for the migration lock, and hold it for the rest of the transaction."""
    locks.hold(connection, locks.Lock.MIGRATION)
    connection.execute(_BESIDE_THE_STORE)
