"""Connections to the store that may only read, and what they bring: binary COPY, for numpy to look into.

Each query has one for as long as it runs. What PostgreSQL sends is counted while it comes; where it is too much, takes
too long, or nobody wants it any more, PostgreSQL is told to stop.
"""

from __future__ import annotations

import contextlib
import select
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus

from gateway.query.errors import ExecutionError, QueryCanceledError, QueryTimeoutError
from gateway.query.limits import Usage
from gateway.store import COPY_HEADER, COPY_TRAILER, READER_ROLE, Connection, break_off, connect

_AT_ONCE = 2**16
"""Rows that are put together at a time: each of its own has as many bytes again around it."""
_CANCEL_SECONDS = 2.0
_SESSION = {
    "default_transaction_read_only": "on",
    "client_connection_check_interval": "5s",
    "jit": "off",  # takes longer than what it would make quicker
}

Rows = npt.NDArray[Any]


class Readers:
    """Connections to one store, kept open between queries. ``find_dsn`` returns where it is now; None: nowhere.

    There are as many as queries run at once. ``seconds`` is how long PostgreSQL may work on one statement.
    """

    def __init__(self, find_dsn: Callable[[], str | None], seconds: float = 60.0) -> None:
        self._find_dsn = find_dsn
        self._settings = {**_SESSION, "statement_timeout": f"{max(int(seconds * 1000), 1)}ms"}
        self._idle: list[tuple[str, Connection]] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextlib.contextmanager
    def reading(self, usage: Usage) -> Iterator[Reading]:
        """Lend a connection for one query. Raises `ExecutionError` when the store cannot be reached."""
        dsn, connection = self._take()
        reading = Reading(connection, usage)
        usage.interruptible(reading.interrupt)
        try:
            yield reading
        except BaseException:
            usage.interruptible(None)
            connection.close()  # nobody knows what it is in the middle of
            raise
        usage.interruptible(None)
        with self._lock:
            # What was told to stop may yet be told so, when somebody else has it.
            if not (self._closed or usage.canceled or connection.closed) and dsn == self._find_dsn():
                self._idle.append((dsn, connection))
                return
        connection.close()

    def close(self) -> None:
        """Close those that nobody uses; those in use are closed when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _take(self) -> tuple[str, Connection]:
        dsn = self._find_dsn()
        if dsn is None:
            raise ExecutionError("no store is configured to read from")
        with self._lock:
            while self._idle:
                its, connection = self._idle.pop()
                if its == dsn and not connection.closed and not _has_ended(connection):
                    return dsn, connection
                connection.close()
        try:
            return dsn, self._connect(dsn)
        except psycopg.Error as error:
            raise ExecutionError(f"the store cannot be reached ({type(error).__name__})") from error

    def _connect(self, dsn: str) -> Connection:
        for settings in ({**self._settings, "role": READER_ROLE}, self._settings):
            try:
                return connect(dsn, autocommit=True, application_name="obs-hub query", settings=settings, reading=True)
            except psycopg.OperationalError:
                if settings is self._settings:
                    raise  # else: this user may not take on the role, or there is none
        raise AssertionError("the last attempt returns or raises")


def _has_ended(connection: Connection) -> bool:
    """Tell whether the server closed an idle connection: then there is something to read, its last words or the end."""
    return bool(select.select([connection.fileno()], [], [], 0)[0])


class Reading:
    """One query's connection. Not for several threads, but for `interrupt`."""

    def __init__(self, connection: Connection, usage: Usage) -> None:
        self._connection = connection
        self.usage = usage

    def interrupt(self) -> None:
        """End what PostgreSQL does, from another thread."""
        threading.Thread(target=self._cancel, name="cancel-query", daemon=True).start()

    def _cancel(self) -> None:
        try:
            self._connection.cancel_safe(timeout=_CANCEL_SECONDS)
        except psycopg.Error:
            break_off(self._connection)

    def rows(self, query: sql.Composed, dtype: npt.DTypeLike) -> Rows:
        """Return what a query finds, whose rows are all as ``dtype`` has them (see `row_of`)."""
        return np.frombuffer(b"".join(self._blocks(query)), np.dtype(dtype))

    def rows_by_size(self, query: sql.Composed) -> dict[int, bytes]:
        """Return what a query finds, by the size of its rows: those of one size have arrays as long as the others'."""
        found: defaultdict[int, list[memoryview]] = defaultdict(list)
        for row in self._messages(query):
            found[len(row)].append(row)
        return {size: b"".join(rows) for size, rows in found.items()}

    def texts(self, query: sql.Composed) -> Iterator[tuple[bytes | None, ...]]:
        """Yield what a query finds, each field as its bytes; None for NULL."""
        for row in self._messages(query):
            (count,) = _COUNT.unpack_from(row)
            fields: list[bytes | None] = []
            place = 2
            for _ in range(count):
                (length,) = _LENGTH.unpack_from(row, place)
                place += 4
                if length < 0:
                    fields.append(None)
                else:
                    fields.append(bytes(row[place : place + length]))
                    place += length
            yield tuple(fields)

    def _blocks(self, query: sql.Composed) -> Iterator[bytes]:
        some: list[memoryview] = []
        for row in self._messages(query):
            some.append(row)
            if len(some) == _AT_ONCE:
                yield b"".join(some)
                some = []
        yield b"".join(some)

    def _messages(self, query: sql.Composed) -> Iterator[memoryview]:
        """Yield the rows of ``COPY (query) TO STDOUT (FORMAT binary)``, of which the server sends each by itself."""
        self.usage.check()
        with self._connection.transaction() if self._connection.pooled else contextlib.nullcontext():
            try:
                yield from self._copied(query)
            except psycopg.Error as error:
                self.usage.check()
                raise _explained(error) from error

    def _copied(self, query: sql.Composed) -> Iterator[memoryview]:
        connection, usage = self._connection, self.usage
        pgconn = connection.pgconn
        statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query).as_bytes(connection)
        usage.add_size(0)
        pgconn.send_query(statement)
        while pgconn.flush():
            self._wait(writing=True)
        while pgconn.is_busy():
            self._wait()
        result = pgconn.get_result()
        if result is None or result.status != ExecStatus.COPY_OUT:
            while pgconn.get_result() is not None:
                pass
            raise _error_of(result, connection)
        take = pgconn.get_copy_data
        first, counted = True, 0
        while True:
            size, data = take(1)
            if size > 0:
                if first:
                    first, data = False, data[len(COPY_HEADER) :]
                if len(data) > len(COPY_TRAILER) or data != COPY_TRAILER:
                    counted += size
                    if len(data):
                        yield data
            elif size == 0:
                usage.add_size(counted)
                counted = 0
                self._wait()
            else:
                break
        usage.add_size(counted)
        while pgconn.is_busy():
            self._wait()
        failed = None
        while (result := pgconn.get_result()) is not None:
            if result.status == ExecStatus.FATAL_ERROR:
                failed = result
        if failed is not None:
            raise _error_of(failed, connection)

    def _wait(self, *, writing: bool = False) -> None:
        """Wait for the server. Raises `QueryTimeoutError` and `QueryCanceledError`."""
        socket = self._connection.pgconn.socket
        poll = select.poll()  # unlike select, for whatever number the socket has
        poll.register(socket, select.POLLIN | (select.POLLOUT if writing else 0))
        if not poll.poll(self.usage.seconds_left * 1000):
            self._cancel()
        self.usage.check()
        self._connection.pgconn.consume_input()


_COUNT, _LENGTH = struct.Struct(">h"), struct.Struct(">i")


def row_of(*columns: tuple[str, str]) -> np.dtype[Any]:
    """Return how a row of fixed columns looks in binary COPY, of names and types such as ``("time", ">i8")``."""
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in columns:
        fields += [(f"{name}_length", ">i4"), (name, kind)]
    return np.dtype(fields)


def array_of(kind: str, count: int) -> np.dtype[Any]:
    """Return how an array of one dimension looks in binary COPY: ``items["value"]`` has its elements."""
    if count == 0:
        return np.dtype([("length", ">i4"), ("dimensions", ">i4", 3), ("items", [("size", ">i4"), ("value", kind)], 0)])
    return np.dtype([("length", ">i4"), ("dimensions", ">i4", 5), ("items", [("size", ">i4"), ("value", kind)], count)])


def ids(values: npt.NDArray[np.int64]) -> sql.Literal:
    """Return keys as an array in SQL."""
    return sql.Literal("{" + ",".join(map(str, values.tolist())) + "}")


def _error_of(result: Any, connection: Connection) -> psycopg.Error:
    if result is None:
        return psycopg.OperationalError("the connection to the store was lost")
    return psycopg.errors.error_from_result(result, encoding=connection.info.encoding)


def _explained(error: psycopg.Error) -> Exception:
    match error:
        case psycopg.errors.QueryCanceled() if "statement timeout" in str(error):
            return QueryTimeoutError("PostgreSQL took too long for the query; ask for less, or raise query.timeout")
        case psycopg.errors.QueryCanceled():
            return QueryCanceledError("the query was canceled in PostgreSQL")
        case psycopg.OperationalError():
            return ExecutionError("the store does not answer: the connection to it was lost")
        case _:
            return ExecutionError(f"the store cannot be read ({type(error).__name__}: {error.diag.message_primary})")
