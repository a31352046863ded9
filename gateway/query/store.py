"""The store, read-only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, LiteralString, Self

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from gateway.store import connect

Row = dict[str, Any]

_ATTEMPTS = 3
"""How often a query is tried that PostgreSQL ends for a deadlock.

Whoever reads a chunk while a job of TimescaleDB compresses it may be chosen for that; once the job is done, it is over.
"""


def read_only(connection: psycopg.Connection[Any], role: str) -> None:
    """Make the transaction that begins here read-only, and that of a role without rights to write where it exists."""
    connection.execute("SET TRANSACTION READ ONLY")
    no_such_role = (psycopg.errors.InvalidParameterValue, psycopg.errors.InsufficientPrivilege)
    with contextlib.suppress(*no_such_role), connection.transaction():
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))


class Store:
    """A connection to the store, opened when first needed and again after it broke."""

    def __init__(self, dsn: str, role: str) -> None:
        self._dsn, self._role = dsn, role
        self._connection: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def rows(self, statement: LiteralString, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Return what a query returns. Raises `psycopg.Error`."""
        attempt = 1
        while True:
            try:
                with self._reading() as connection, connection.cursor(row_factory=dict_row) as cursor:
                    return cursor.execute(statement, parameters).fetchall()
            except psycopg.errors.DeadlockDetected:
                if attempt == _ATTEMPTS:
                    raise
                attempt += 1

    def stream(self, statement: LiteralString, parameters: Mapping[str, Any] | None = None) -> Iterator[Row]:
        """Yield what a query returns, as it arrives. Nothing else can be read meanwhile. Raises `psycopg.Error`."""
        attempt = 1
        while True:
            try:
                with self._reading() as connection, connection.cursor(row_factory=dict_row) as cursor:
                    for row in cursor.stream(statement, parameters):
                        attempt = _ATTEMPTS  # what was yielded is not to be yielded again
                        yield row
                    return
            except psycopg.errors.DeadlockDetected:
                if attempt == _ATTEMPTS:
                    raise
                attempt += 1

    @contextlib.contextmanager
    def _reading(self) -> Iterator[psycopg.Connection[Any]]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._dsn, reading=True)
        with self._connection.transaction():
            read_only(self._connection, self._role)
            yield self._connection
