"""The schema and its migrations, run by Alembic.

Several gateways may start at once on one empty database: whoever gets the lock makes the next migration, the others
wait and find it done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from exporters.timescale import layout, locks, unfinished
from exporters.timescale.connections import Connections
from exporters.timescale.reader import READER_ROLE as READER_ROLE
from exporters.timescale.reader import let_read

if TYPE_CHECKING:
    import sqlalchemy
    from alembic.config import Config


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
    import sqlalchemy.exc
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _alembic_config()
    config.attributes["layout"] = wanted_layout
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    with connections.open() as connection:
        if unfinished.is_unfinished(connection):
            raise SchemaError(unfinished.MESSAGE)
        locks.make(connection)
        connection.autocommit = False
        engine = sqlalchemy.create_engine(
            "postgresql+psycopg://", creator=lambda: connection, poolclass=sqlalchemy.pool.StaticPool
        )
        while True:
            with _locked(engine, connection) as config.attributes["connection"]:
                applied = set(_applied(connection))
                if foreign := sorted(applied - known):
                    raise SchemaError(
                        f"the schema of this database is at version {', '.join(foreign)}, which this gateway does not "
                        "know: it was made by a newer one; upgrade this gateway"
                    )
                if applied == set(scripts.get_heads()):
                    let_read(connection)
                    break
                try:
                    command.upgrade(config, "+1")
                except sqlalchemy.exc.DBAPIError as error:
                    if isinstance(error.orig, psycopg.Error):
                        raise error.orig from error
                    raise
        present = layout.current(connection)
        assert present is not None, "the first migration records the layout"
        if wanted_layout not in ("auto", present.name):
            raise layout.LayoutError(
                f"layout: {wanted_layout} is configured, but this store was made with layout {present.name} and a "
                "store keeps its layout; use a new database, or set layout: auto"
            )
        return present


def status(connections: Connections) -> Status:
    """Return the state of the schema without changing it."""
    from alembic.script import ScriptDirectory

    with connections.open() as connection:
        if unfinished.is_unfinished(connection):
            return Status([], [], None, unfinished=True)
        scripts = ScriptDirectory.from_config(_alembic_config())
        revisions = [f"{s.revision} {s.doc}" for s in reversed(list(scripts.walk_revisions()))]
        heads = _applied(connection)
        done = sum(1 for _ in scripts.iterate_revisions(heads[0], "base")) if heads else 0
        return Status(revisions[:done], revisions[done:], layout.current(connection))


def _applied(connection: layout.Connection) -> list[str]:
    if connection.execute("SELECT to_regclass('schema_version')").fetchone() == (None,):
        return []
    return [row[0] for row in connection.execute("SELECT version_num FROM schema_version")]


def _alembic_config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "exporters.timescale:migrations")
    return config


_BESIDE_THE_STORE = """
SELECT set_config('search_path', format('%I, %s', n.nspname, current_setting('search_path')), true)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass('store_setting') AND n.nspname <> current_schema()
"""
"""What a migration adds belongs where the store is, though a role's search path may have changed since it was made."""


@contextmanager
def _locked(engine: sqlalchemy.Engine, connection: layout.Connection) -> Iterator[sqlalchemy.Connection]:
    """Run a block in a transaction that holds the migration lock; yields the connection as Alembic wants it."""
    with engine.connect() as wrapped, wrapped.begin():
        locks.hold(connection, locks.Lock.MIGRATION)
        connection.execute(_BESIDE_THE_STORE)
        yield wrapped
