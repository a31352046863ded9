"""Connecting to PostgreSQL, directly or through a pooler.

A pooler in transaction mode hands a server's session to somebody else after each transaction: nothing that is set up
for a session holds, and what is prepared in one is not there in the next. Where one is in between, each transaction is
therefore set up by itself, statements outside of transactions become transactions, and none is prepared. In session
mode that is not needed, and does no harm.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Unpack

import psycopg
from psycopg.abc import Params
from psycopg.pq import TransactionStatus

from gateway.store.postgres.session import BEGIN_SESSION, BEGIN_TRANSACTION, Session, SessionOptions, explain, plan


class Connection(psycopg.Connection[Any]):
    """A connection whose sessions are set up, made by `connect`.

    Through a pooler, cursors are for use within a transaction: `execute` and `transaction` see to the rest.
    """

    pooled: Session | None = None
    """What each transaction is set up as, where a pooler is in between."""
    server_process: int = 0
    """The server's process that the session is on; through a pooler, that of the latest transaction that was set up."""

    def execute(
        self, query: Any, params: Params | None = None, *, prepare: bool | None = None, binary: bool = False
    ) -> psycopg.Cursor[Any]:
        """Execute a query and return a cursor to read its results."""
        if self.pooled is not None and self._is_idle():
            if self.autocommit:
                with self.transaction():
                    return super().execute(query, params, prepare=prepare, binary=binary)
            self._set_up(self.pooled)
        return super().execute(query, params, prepare=prepare, binary=binary)

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        """Start a context block with a new transaction or nested transaction."""
        outermost = self._is_idle()
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if self.pooled is not None and outermost:
                self._set_up(self.pooled)
            yield transaction

    def _is_idle(self) -> bool:
        return self.info.transaction_status is TransactionStatus.IDLE

    def _set_up(self, session: Session) -> None:
        row = super().execute(BEGIN_TRANSACTION, session.parameters()).fetchone()
        if row is not None:
            self.server_process = row[0]


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """As `Connection`, made by `connect_async`."""

    pooled: Session | None = None

    async def execute(
        self, query: Any, params: Params | None = None, *, prepare: bool | None = None, binary: bool = False
    ) -> psycopg.AsyncCursor[Any]:
        """Execute a query and return a cursor to read its results."""
        if self.pooled is not None and self._is_idle():
            if self.autocommit:
                async with self.transaction():
                    return await super().execute(query, params, prepare=prepare, binary=binary)
            await self._set_up(self.pooled)
        return await super().execute(query, params, prepare=prepare, binary=binary)

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[psycopg.AsyncTransaction]:
        """Start a context block with a new transaction or nested transaction."""
        outermost = self._is_idle()
        async with super().transaction(savepoint_name, force_rollback) as transaction:
            if self.pooled is not None and outermost:
                await self._set_up(self.pooled)
            yield transaction

    def _is_idle(self) -> bool:
        return self.info.transaction_status is TransactionStatus.IDLE

    async def _set_up(self, session: Session) -> None:
        await super().execute(BEGIN_TRANSACTION, session.parameters())


def connect(dsn: str, *, autocommit: bool = False, **options: Unpack[SessionOptions]) -> Connection:
    """Connect to a server, and set up the session (see `session.plan` for what wins over what).

    Raises `UnusableServerError` for what only a person can mend, and `psycopg.OperationalError` when the server does
    not answer or does not take a setting.
    """
    session = plan(dsn, **options)
    connection = Connection.connect(session.conninfo, autocommit=True)
    try:
        # libpq's own limit ends with the login, and an answer that is swallowed after it would be waited for for ever.
        with broken_off_after(session.set_up_timeout, connection):
            key = connection.info.backend_pid
            row = connection.execute(BEGIN_SESSION, session.parameters(key)).fetchone()
            connection.server_process = row[0] if row else key
            if session.is_pooled(key, row):
                connection.pooled, connection.prepare_threshold = session, None
                connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
                connection.read_only, connection.deferrable = session.reading, False
                with connection.transaction():
                    pass  # whether transactions are allowed
            connection.autocommit = autocommit
    except psycopg.Error as error:
        connection.close()
        raise explain(error) from error
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def broken_off_after(seconds: float, connection: Connection) -> Iterator[None]:
    """Break a connection off when a block takes longer than that; 0 for as long as it needs."""
    patience = threading.Timer(seconds, break_off, (connection,))
    patience.daemon = True
    if seconds:
        patience.start()
    try:
        yield
    finally:
        patience.cancel()


def break_off(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Shut the socket down under whoever waits for it: closing the connection is for that thread or task to do."""
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as its_socket:
            its_socket.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        pass  # it ended meanwhile


async def connect_async(dsn: str, *, autocommit: bool = False, **options: Unpack[SessionOptions]) -> AsyncConnection:
    """As `connect`, without blocking."""
    session = plan(dsn, **options)
    connection = await AsyncConnection.connect(session.conninfo, autocommit=True)
    seconds = session.set_up_timeout
    patience = asyncio.get_running_loop().call_later(seconds, break_off, connection) if seconds else None
    try:
        key = connection.info.backend_pid
        row = await (await connection.execute(BEGIN_SESSION, session.parameters(key))).fetchone()
        if session.is_pooled(key, row):
            connection.pooled, connection.prepare_threshold = session, None
            await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
            await connection.set_read_only(session.reading)
            await connection.set_deferrable(False)
            async with connection.transaction():
                pass  # whether transactions are allowed
        await connection.set_autocommit(autocommit)
    except psycopg.Error as error:
        await connection.close()
        raise explain(error) from error
    except BaseException:
        await connection.close()
        raise
    finally:
        if patience is not None:
            patience.cancel()
    return connection
