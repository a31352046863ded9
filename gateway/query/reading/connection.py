"""Connections to the store that may only read, and what they bring by COPY.

All that reads telemetry does it by these: query languages, the page and the command line. Each query has one for as
long as it runs. What PostgreSQL sends is counted while it comes; where it is too much, takes too long, or nobody wants
it any more, PostgreSQL is told to stop.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, LiteralString
from weakref import WeakKeyDictionary

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus, TransactionStatus

from gateway.query.errors import (
    BadQueryError,
    ExecutionError,
    PatternError,
    QueryCanceledError,
    QueryTimeoutError,
    StoreAwayError,
)
from gateway.query.limits import Usage
from gateway.store import COPY_HEADER, COPY_TRAILER, READER_ROLE, Connection, UnusableServerError, break_off, connect

if TYPE_CHECKING:
    import numpy.typing as npt
    from psycopg.pq.abc import PGresult

    from gateway.query.reading.arrays import Rows

_AT_ONCE = 2**16
"""Rows that are handed on at a time: each of its own has as many bytes again around it."""
_CANCEL_SECONDS = 2.0
_LONGEST_WAIT = 3600.0
_SESSION = {
    "default_transaction_read_only": "on",
    "client_connection_check_interval": "5s",
    "jit": "off",  # takes longer than what it would make quicker
}
_ATTEMPTS = 3
"""How often a statement is tried that PostgreSQL ends for a deadlock.

Whoever reads a chunk while a job of TimescaleDB compresses it may be chosen for that; once the job is done, it is over.
"""
_NO_SUCH_ROLE = (psycopg.errors.InvalidParameterValue, psycopg.errors.InsufficientPrivilege)


def connect_to_read(dsn: str, seconds: float | None = None, *, autocommit: bool = True) -> Connection:
    """Connect as who may only read: in read-only transactions, and as the role of readers where this user may be it.

    PostgreSQL may work on one statement for ``seconds``; None: for ever. Raises `psycopg.Error`.
    """
    settings = dict(_SESSION)
    if seconds is not None:
        settings["statement_timeout"] = f"{max(int(seconds * 1000), 1)}ms"
    try:
        return _connect(dsn, {**settings, "role": READER_ROLE}, autocommit)
    except psycopg.Error as error:
        if not isinstance(error.__cause__, _NO_SUCH_ROLE):
            raise
    return _connect(dsn, settings, autocommit)


def _connect(dsn: str, settings: dict[str, str], autocommit: bool) -> Connection:
    return connect(dsn, autocommit=autocommit, application_name="obs-hub query", settings=settings, reading=True)


class Readers:
    """Connections to one store, kept open between queries. ``find_dsn`` returns where it is now; None: nowhere.

    There are as many as queries run at once. ``seconds`` is how long PostgreSQL may work on one statement; None: for
    ever.
    """

    def __init__(self, find_dsn: Callable[[], str | None], seconds: float | None = 60.0) -> None:
        self._find_dsn = find_dsn
        self._seconds = seconds
        self._idle: list[tuple[str, Connection]] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextlib.contextmanager
    def reading(self, usage: Usage) -> Iterator[Reading]:
        """Lend a connection for one query. Raises `StoreAwayError` when the store cannot be reached."""
        dsn, connection = self._take()
        reading = Reading(connection, usage)
        usage.interruptible(reading.interrupt)
        try:
            yield reading
        finally:
            usage.interruptible(None)
            usage.release()
            self._give_back(dsn, connection, usage)

    def _give_back(self, dsn: str, connection: Connection, usage: Usage) -> None:
        with self._lock:
            # What was told to stop may yet be told so, when somebody else has it. A query may have failed for what it
            # asks, with nothing of it left on the connection, or in the middle of what PostgreSQL sends.
            idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
            if idle and not (self._closed or usage.canceled or connection.closed) and dsn == self._find_dsn():
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
            return dsn, connect_to_read(dsn, self._seconds)
        except UnusableServerError as error:
            raise ExecutionError(f"the store cannot be read: {error}") from error
        except psycopg.Error as error:  # whose message may tell how one connects
            raise StoreAwayError(f"the store cannot be reached ({type(error).__name__})") from error


def _has_ended(connection: Connection) -> bool:
    """Tell whether the server closed an idle connection: then there is something to read, its last words or the end."""
    return bool(select.select([connection.fileno()], [], [], 0)[0])


class Reading:
    """One query's connection. Not for several threads, but for `interrupt`."""

    def __init__(self, connection: Connection, usage: Usage) -> None:
        self._connection = connection
        self.usage = usage
        self._ahead: dict[bytes, list[memoryview]] = {}

    def interrupt(self) -> None:
        """End what PostgreSQL does, from another thread."""
        threading.Thread(target=self._cancel, name="cancel-query", daemon=True).start()

    def _cancel(self) -> None:
        try:
            self._connection.cancel_safe(timeout=_CANCEL_SECONDS)
        except psycopg.Error:
            break_off(self._connection)

    @property
    def origin(self) -> tuple[int, int]:
        """What is another one where the server has started anew, or the database is another. It is asked once of a
        connection, which outlives neither; but for one of a pooler, behind which servers may change."""
        if self._connection.pooled or (known := _origins.get(self._connection)) is None:
            (row,) = self.rows(_ORIGIN, _origin_row())
            known = _origins[self._connection] = int(row["started"]), int(row["database"])
        return known

    def rows(self, query: sql.Composable, dtype: npt.DTypeLike) -> Rows:
        """Return what a query finds, whose rows are all as ``dtype`` has them (see `arrays.row_of`)."""
        import numpy as np  # which takes as long to import as a short command runs

        return np.frombuffer(b"".join([b"".join(some) for some in self._found(query)]), np.dtype(dtype))

    def rows_by_size(self, query: sql.Composable) -> dict[int, bytes]:
        """Return what a query finds, by the size of its rows: those of one size have arrays as long as the others'."""
        found: defaultdict[int, list[bytes | memoryview]] = defaultdict(list)
        for some in self._found(query):
            if len({*map(len, some)}) == 1:
                found[len(some[0])].append(b"".join(some))
                continue
            for row in some:
                found[len(row)].append(row)
        return {size: b"".join(rows) for size, rows in found.items()}

    def ahead(self, queries: Sequence[sql.Composable]) -> None:
        """Ask all at once for what `rows` and `rows_by_size` may be asked for next, which spares waiting for each.

        What each finds is handed out once, to whoever asks the same; until the next call of this.
        """
        self._ahead = {}
        texts = list(dict.fromkeys(query.as_bytes(self._connection) for query in queries))
        found: list[list[memoryview]] = [[] for _ in texts]
        for number, some in self._messages(texts):
            found[number] += some
        self._ahead = dict(zip(texts, found, strict=True))

    def _found(self, query: sql.Composable) -> Iterator[list[memoryview]]:
        """Yield the rows that a query finds, as many at a time as have arrived."""
        text = query.as_bytes(self._connection)
        if (known := self._ahead.pop(text, None)) is not None:
            yield known
            return
        for _, some in self._messages([text]):
            yield some

    def texts(self, query: sql.Composable) -> Iterator[tuple[bytes | None, ...]]:
        """Yield what a query finds, each field as its bytes; None for NULL."""
        for row in itertools.chain.from_iterable(self._found(query)):
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

    def composed(self, statement: LiteralString, parameters: Mapping[str, Any] | None) -> sql.Composed:
        """Return a statement with its parameters in it, as COPY wants it. Raises `BadQueryError`."""
        try:
            text = psycopg.ClientCursor(self._connection).mogrify(statement, parameters)
        except psycopg.DataError as error:  # a NUL, which text in PostgreSQL has no room for
            raise BadQueryError(f"what was asked for cannot be in the store: {error}") from error
        return sql.Composed([sql.SQL(text)])  # pyright: ignore[reportArgumentType] - of literals, and quoted

    def _messages(self, queries: Sequence[bytes]) -> Iterator[tuple[int, list[memoryview]]]:
        """Yield the rows of ``COPY (query) TO STDOUT (FORMAT binary)``, as many at a time as have arrived, each with
        the number of the query that they are of."""
        self.usage.check()
        attempt = 1
        while True:
            try:
                with self._connection.transaction() if self._connection.pooled else contextlib.nullcontext():
                    for number, some in self._copied(queries):
                        attempt = _ATTEMPTS  # what was yielded is not to be yielded again
                        yield number, some
                return
            except psycopg.errors.DeadlockDetected as error:
                if attempt == _ATTEMPTS:
                    raise _explained(error) from error
                attempt += 1
            except psycopg.Error as error:
                self.usage.check()
                raise _explained(error) from error

    def _copied(self, queries: Sequence[bytes]) -> Iterator[tuple[int, list[memoryview]]]:
        pgconn = self._connection.pgconn
        self.usage.add_size(0)
        pgconn.send_query(b"; ".join(b"COPY (%b) TO STDOUT (FORMAT binary)" % query for query in queries))
        while pgconn.flush():
            self._wait(writing=True)
        for number in range(len(queries)):
            result = self._result()
            if result is None or result.status != ExecStatus.COPY_OUT:
                while pgconn.get_result() is not None:
                    pass
                raise _error_of(result, self._connection)
            for some in self._rows_sent():
                yield number, some
            result = self._result()
            if result is None or result.status == ExecStatus.FATAL_ERROR:
                while pgconn.get_result() is not None:
                    pass
                raise _error_of(result, self._connection)
        while self._result() is not None:
            pass

    def _result(self) -> PGresult | None:
        """Return the next result, once it is there; None: there is no other."""
        while self._connection.pgconn.is_busy():
            self._wait()
        return self._connection.pgconn.get_result()

    def _rows_sent(self) -> Iterator[list[memoryview]]:
        """Yield the rows of one COPY, as many at a time as have arrived."""
        usage = self.usage
        take = self._connection.pgconn.get_copy_data
        some: list[memoryview] = []
        first, counted = True, 0
        while True:
            size, data = take(1)
            if size > 0:
                counted += size
                if first:
                    first, data = False, data[len(COPY_HEADER) :]
                if len(data):
                    some.append(data)
                if len(some) < _AT_ONCE:
                    continue
            usage.add_size(counted)
            if some and some[-1] == COPY_TRAILER:
                some.pop()
            if some:
                yield some
            some, counted = [], 0
            if size == 0:
                self._wait()
            elif size < 0:
                return

    def _wait(self, *, writing: bool = False) -> None:
        """Wait for the server. Raises `QueryTimeoutError` and `QueryCanceledError`."""
        socket = self._connection.pgconn.socket
        poll = select.poll()  # unlike select, for whatever number the socket has
        poll.register(socket, select.POLLIN | (select.POLLOUT if writing else 0))
        if not poll.poll(min(self.usage.seconds_left, _LONGEST_WAIT) * 1000) and self.usage.seconds_left == 0:
            self._cancel()
        self.usage.check()
        self._connection.pgconn.consume_input()


_ORIGIN = sql.SQL(
    "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, oid::bigint FROM pg_database"
    " WHERE datname = current_database()"
)
_origins: WeakKeyDictionary[Connection, tuple[int, int]] = WeakKeyDictionary()


def _origin_row() -> npt.DTypeLike:
    from gateway.query.reading.arrays import row_of  # with which comes numpy

    return row_of(("started", ">i8"), ("database", ">i8"))


_COUNT, _LENGTH = struct.Struct(">h"), struct.Struct(">i")


def _error_of(result: Any, connection: Connection) -> psycopg.Error:
    if result is None:
        return psycopg.OperationalError("the connection to the store was lost")
    return psycopg.errors.error_from_result(result, encoding=connection.info.encoding)


def _explained(error: psycopg.Error) -> Exception:
    said = error.diag.message_primary or str(error)
    match error:
        case psycopg.errors.QueryCanceled() if "statement timeout" in str(error):
            return QueryTimeoutError("PostgreSQL took too long for the query; ask for less, or raise query.timeout")
        case psycopg.errors.QueryCanceled():
            return QueryCanceledError("the query was canceled in PostgreSQL")
        case psycopg.errors.InvalidRegularExpression():
            return PatternError(said)
        case psycopg.OperationalError() if error.sqlstate is None or error.sqlstate[:2] in ("08", "53", "57"):
            # Whatever is no answer of the server, and what it answers while it starts, stops or has no room.
            return StoreAwayError("the store does not answer: the connection to it was lost")
        case _:
            return ExecutionError(f"the store cannot be read ({type(error).__name__}: {said})")
