"""The schema and its migrations, run by Alembic.

Several gateways may start at once on one empty database: whoever gets the lock makes the next migration, the others
wait and find it done.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from exporters.timescale import layout, locks, unfinished
from exporters.timescale.connections import Connections
from exporters.timescale.reader import READER_ROLE as READER_ROLE
from exporters.timescale.reader import let_read
from gateway.postgres import plan

_VERSIONS = Path(__file__).parent / "migrations" / "versions"


class SchemaError(Exception):
    """The schema of this database cannot be used by this version of the gateway."""


@dataclass(slots=True, frozen=True)
class Status:
    """Which migrations a store has and lacks, oldest first, its layout, and whether a restore of it is not done."""

    applied: list[str]
    pending: list[str]
    layout: layout.Layout | None
    unfinished: bool = False


def migrate(connections: Connections, wanted_layout: str = "auto") -> layout.Layout:
    """Bring the schema up to date and return the layout of the store.

    Raises `SchemaError` when the schema is newer than this gateway or the store is not whole, `layout.LayoutError` when
    the layout is not to be had, and `psycopg.Error` when the database is not reachable or refuses, or when a lock is
    not to be had in time. No statement has a limit of its own: an index on much data takes its time.
    """
    revisions = _revisions()
    with connections.open() as connection:
        _require_found(connection, connections.dsn)
        if unfinished.is_unfinished(connection):
            raise SchemaError(unfinished.MESSAGE)
        locks.make(connection)
        connection.autocommit = False
        while not _complete(connection, revisions):
            _upgrade(connection, revisions, wanted_layout)
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

    Raises `SchemaError` when the schema is newer than this gateway, or the store is where nobody looks for it.
    """
    revisions = _revisions()
    with connections.open() as connection:
        _require_found(connection, connections.dsn)
        if unfinished.is_unfinished(connection):
            return Status([], [], None, unfinished=True)
        done = _count_applied(connection, revisions)
        described = [f"{revision} {_described(module)}" for revision, module in revisions.items()]
        return Status(described[:done], described[done:], layout.current(connection))


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


def _revisions() -> dict[str, Path]:
    """Return the module of each revision, oldest first. They are one line, and a module is named after its own.

    That tells the state of a store without Alembic, which takes longer to import than the rest of a start.
    """
    return {module.name[1:5]: module for module in sorted(_VERSIONS.glob("v[0-9][0-9][0-9][0-9]_*.py"))}


def _described(module: Path) -> str:
    return (ast.get_docstring(ast.parse(module.read_text("utf-8"))) or "").split("\n\n")[0]


def _count_applied(connection: layout.Connection, revisions: Iterable[str]) -> int:
    """Return how many of the revisions the store has, which is at one of them or at none."""
    if connection.execute("SELECT to_regclass('schema_version')").fetchone() == (None,):
        return 0
    at = [row[0] for row in connection.execute("SELECT version_num FROM schema_version")]
    known = list(revisions)
    if foreign := sorted(set(at) - set(known)):
        raise SchemaError(
            f"the schema of this database is at version {', '.join(foreign)}, which this gateway does not know: "
            "it was made by a newer one; upgrade this gateway"
        )
    return max((known.index(revision) + 1 for revision in at), default=0)


def _complete(connection: layout.Connection, revisions: Collection[str]) -> bool:
    """Return whether the store has all revisions; if so, have seen to what its readers may."""
    with connection.transaction():
        _take_turn(connection)
        if _count_applied(connection, revisions) < len(revisions):
            return False
        let_read(connection)
        return True


def _upgrade(connection: layout.Connection, revisions: Collection[str], wanted_layout: str) -> None:
    """Make the migrations that are missing, each in a transaction; between them it may be another gateway's turn."""
    import sqlalchemy.exc
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "exporters.timescale:migrations")
    config.attributes["layout"] = wanted_layout
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=sqlalchemy.pool.StaticPool
    )
    while True:
        with engine.connect() as wrapped, wrapped.begin():
            _take_turn(connection)
            if _count_applied(connection, revisions) == len(revisions):
                return
            config.attributes["connection"] = wrapped
            try:
                command.upgrade(config, "+1")
            except sqlalchemy.exc.DBAPIError as error:
                if isinstance(error.orig, psycopg.Error):
                    raise error.orig from error
                raise


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
