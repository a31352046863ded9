"""Databases to test on: real ones, each made for a test and dropped after it."""

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
        deadline = time.monotonic() + 60
        while not await asyncio.to_thread(self.value, query, parameters):
            assert time.monotonic() < deadline, f"still not true: {query}"

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
    database = Database(server, f"obs_hub_test_{uuid.uuid4().hex[:12]}")
    name = sql.Identifier(database.name)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    try:
        yield database
    finally:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
