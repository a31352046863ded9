"""Databases to test on: real ones, each made for a test and dropped after it.

Most tests want a store and do not care how it was made. They get a copy of one that was made once, which takes a tenth
of the time. What is tested of migrations begins with an empty database.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.support.waiting import PATIENCE, pauses


@dataclass(frozen=True)
class Server:
    """A database server, and the layout that stores on it have."""

    layout: Literal["native", "timescale"]
    dsn: str


@dataclass(frozen=True)
class Database:
    """A database of a server."""

    server: Server
    name: str

    @property
    def dsn(self) -> str:
        return make_conninfo(self.server.dsn, dbname=self.name)

    @property
    def native(self) -> bool:
        return self.server.layout == "native"

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True)

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; return its rows, if it has any."""
        with self.connect() as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """Return the one value that a query has."""
        ((value,),) = self.run(statement, parameters)
        return value

    def count(self, table: str) -> int:
        count: int = self.value(f"SELECT count(*) FROM {table}")
        return count

    async def until(self, query: str, parameters: Sequence[Any] = ()) -> None:
        """Wait until a query's one value is true: for what the server can be asked about and does not tell."""
        deadline = time.monotonic() + PATIENCE
        for pause in pauses():  # each look is a connection, and so a process of the server
            if await asyncio.to_thread(self.value, query, parameters):
                return
            assert time.monotonic() < deadline, f"still not true: {query}"
            await asyncio.sleep(pause)

    def allow_connections(self, allowed: bool) -> None:
        """Let the server refuse connections to the database, as if it were down, or end that."""
        with psycopg.connect(self.server.dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
                    sql.Identifier(self.name), sql.Literal(allowed)
                )
            )
            if not allowed:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
                    " AND backend_type = 'client backend'",
                    (self.name,),
                )


@contextmanager
def fresh(server: Server) -> Iterator[Database]:
    """Make an empty database, and drop it afterwards."""
    with _made(server, None) as database:
        yield database


@contextmanager
def fresh_store(server: Server) -> Iterator[Database]:
    """Make a database with a migrated store that has no data, and drop it afterwards."""
    with _made(server, _template(server)) as database:
        if not database.native:  # its scheduler does not run for a database until its launcher has looked around
            database.run("SELECT _timescaledb_functions.start_background_workers()")
        yield database


@contextmanager
def _made(server: Server, template: str | None) -> Iterator[Database]:
    # Only a template of one's own is named: TimescaleDB starts a worker in one that is named and may be connected to,
    # template1 too, and that worker keeps it from being copied.
    copied = sql.SQL("") if template is None else sql.SQL("TEMPLATE {}").format(sql.Identifier(template))
    database = Database(server, f"obs_hub_test_{uuid.uuid4().hex[:12]}")
    name = sql.Identifier(database.name)
    # To copy the files of a database is the quickest where nothing waits for the disk, as on the embedded server.
    strategy = sql.SQL("file_copy" if server.layout == "native" else "wal_log")
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} {} STRATEGY {}").format(name, copied, strategy))
    try:
        yield database
    finally:
        _drop(database)


_templates: dict[Server, Database] = {}


def _template(server: Server) -> str:
    """The name of a database with a store. Nobody may connect to it: that would keep it from being copied."""
    from tests.support.stores import make_store

    if server not in _templates:
        template = Database(server, f"obs_hub_test_template_{uuid.uuid4().hex[:12]}")
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(template.name)))
        _templates[server] = template
        make_store(template)
        if not template.native:
            template.run("SELECT _timescaledb_functions.stop_background_workers()")
        template.allow_connections(False)
    return _templates[server].name


def drop_template(server: Server) -> None:
    """Drop what stores are copied from on a server, for the end of all tests."""
    if (template := _templates.pop(server, None)) is not None:
        _drop(template)


def _drop(database: Database) -> None:
    with psycopg.connect(database.server.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))
