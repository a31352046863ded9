"""One connection that commits batches: receipts, dimensions and facts in one transaction."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from exporters.timescale.copy import COLUMNS, IdentifiedRow, Rows
from exporters.timescale.dimensions import SEEN, SETS, TABLES, in_order
from exporters.timescale.dimensions import Rows as DimensionRows
from exporters.timescale.points import sample_rows
from exporters.timescale.sets import member_rows
from gateway.component import Prepared, RefusedError, TimedOutError, UnavailableError
from gateway.store import (
    COPY_HEADER,
    COPY_TRAILER,
    RESTORE_UNFINISHED,
    Connection,
    Connections,
    Layout,
    Lock,
    Partitions,
    break_off,
    hold_lock,
)


@dataclass(slots=True)
class PreparedRows(Prepared):
    """A batch encoded as rows.

    ``generation`` says which generation of the dimensions its keys come from; ``timestamped`` whether any record
    carries a timestamp, without which two equal batches are two batches.
    """

    rows: Rows | None = None
    generation: int = 0
    timestamped: bool = True

    @property
    def size(self) -> int:
        """About how many bytes the rows take."""
        return 0 if self.rows is None else self.rows.size


class DimensionsCollectedError(Exception):
    """Unused dimensions were removed since the batches were encoded: their keys must be computed anew."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"dimensions were collected, the store is at epoch {epoch}")
        self.epoch = epoch


_ROWS_A_STATEMENT = 10_000


def _literal(text: str) -> sql.SQL:
    """SQL that is put together of what stands in this code."""
    return sql.SQL(text)  # pyright: ignore[reportArgumentType]


_COPY = {
    table: sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)")
    .format(sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns)))
    .as_bytes()
    for table, columns in COLUMNS.items()
}
_UPDATE = "epoch = excluded.epoch WHERE known.epoch < excluded.epoch"
# Of several descriptions the longest is kept, as SDKs do, on which all writers agree whatever the order in which they
# come. Source: OpenTelemetry metrics SDK specification, "Duplicate instrument registration".
_UPDATE_METRIC = (
    "epoch = greatest(known.epoch, excluded.epoch),"
    " description = CASE WHEN length(excluded.description) > length(known.description)"
    " THEN excluded.description ELSE known.description END,"
    " metadata = CASE WHEN excluded.metadata <> '{}' THEN excluded.metadata ELSE known.metadata END"
    " WHERE known.epoch < excluded.epoch OR length(excluded.description) > length(known.description)"
    " OR excluded.metadata NOT IN ('{}', known.metadata)"
)
_AS_TEXT = ("jsonb", "double precision[]")
_INSERT_DIMENSIONS = {
    table: sql.SQL(
        "INSERT INTO {table} AS known ({}, epoch) SELECT {}, %s FROM unnest({}) AS new ({})"
        " ON CONFLICT (id) DO UPDATE SET {update}"
    )
    .format(
        sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns),
        # jsonb travels as text, which psycopg sends as it is, and so do arrays, for those of an array are equally long.
        sql.SQL(", ").join(_literal("{}::" + kind).format(sql.Identifier(name)) for name, kind in columns),
        sql.SQL(", ").join(_literal("%s::text[]" if kind in _AS_TEXT else f"%s::{kind}[]") for _, kind in columns),
        sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns),
        table=sql.Identifier(table),
        update=sql.SQL(_UPDATE_METRIC if table == "metric" else _UPDATE),
    )
    .as_bytes()
    for table, columns in TABLES.items()
}
# The members of a set that is there are there: they are stored, and removed, in one transaction with it.
_INSERT_SETS = (
    "INSERT INTO series_set AS known (id, epoch) SELECT id, %s FROM unnest(%s::bigint[]) AS new (id)"
    " ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch WHERE known.epoch < excluded.epoch RETURNING id, xmax = 0"
)
_COPY_MEMBERS = "COPY member (set_id, series_id, ord, is_int, has_start) FROM STDIN (FORMAT binary)"
_INSERT_SEEN = (
    "INSERT INTO metric_seen AS known (metric_id, first_seen, last_seen) SELECT id, instant(first), instant(last)"
    " FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS new (id, first, last) ON CONFLICT (metric_id) DO UPDATE"
    " SET first_seen = least(known.first_seen, excluded.first_seen),"
    " last_seen = greatest(known.last_seen, excluded.last_seen)"
    " WHERE known.first_seen IS NULL OR excluded.first_seen < known.first_seen OR excluded.last_seen > known.last_seen"
)
_MORE_TIME = (
    "SELECT set_config('statement_timeout', %s, true), set_config('idle_in_transaction_session_timeout', %s, true)"
)
_BEGIN = (
    "SELECT epoch, pg_backend_pid(), transaction_timestamp(), to_regclass('store_restoring') IS NULL"
    " FROM dimension_epoch"
)
# Its process may have another transaction by now, or be another one.
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND xact_start = %s"
_INSERT_RECEIPTS = (
    "INSERT INTO receipt (digest) SELECT digest FROM unnest(%s::uuid[]) AS new (digest)"
    " ON CONFLICT DO NOTHING RETURNING digest"
)
# A commit that was broken off while it waited for synchronous standbys is there on the primary alone, and one that
# writes nothing does not wait for them: so this writes something. Source: PostgreSQL's RecordTransactionCommit.
_WAIT_FOR_STANDBYS = (
    "UPDATE receipt SET received_at = received_at WHERE digest = %s"
    " AND current_setting('synchronous_standby_names') <> ''"
)
# Those that were there are answered, which are none mostly. Both arrays come as text: to make an object of each uid,
# to write it and to read it back, would cost more than the server takes.
_INSERT_IDENTITIES = (
    "WITH new AS (SELECT * FROM unnest(%s::uuid[], %s::float8[]) AS new (uid, seconds)),"
    " inserted AS (INSERT INTO event_identity (uid, time) SELECT uid, to_timestamp(seconds) FROM new"
    " ON CONFLICT DO NOTHING RETURNING uid)"
    " SELECT uid FROM new WHERE uid NOT IN (SELECT uid FROM inserted)"
)


class Writer:
    """Commits batches on a connection of its own, which it opens when needed and again after it broke."""

    def __init__(
        self,
        connections: Connections,
        present: Layout,
        partitions: Partitions,
        timeout: timedelta,
        direct_copy_points: int | None,
        synchronous_commit: str,
    ) -> None:
        self._connections = connections
        self._layout = present
        self._partitions = partitions
        self._timeout = timeout
        self._direct_copy_points = direct_copy_points if present.community else None
        self._synchronous_commit = synchronous_commit
        self._connection: Connection | None = None
        self._begun: tuple[int, datetime] | None = None
        """The server's process and the moment in which the last transaction began."""
        self._left: tuple[int, datetime] | None = None
        """The same of the last one on a connection that broke, as long as the server has not been asked to end it."""
        self._interrupted = False

    def get_ready(self) -> None:
        """Forget that a write was broken off, before the next is begun."""
        self._interrupted = False

    def write(
        self, batches: Sequence[PreparedRows], dimensions: DimensionRows, epoch: int | None, seconds: float = 0.0
    ) -> list[bool]:
        """Store the batches in one transaction. Returns, for each, whether it was new.

        ``seconds`` is how long a statement may take, where that is longer than the timeout.

        Blocks. Raises `UnavailableError` when trying again may help, `RefusedError` when the database will never take
        these rows, and `DimensionsCollectedError` when they were encoded under another epoch. Nothing is stored then.
        """
        try:
            try:
                return self._transaction(batches, dimensions, epoch, seconds)
            except psycopg.errors.CheckViolation:
                if not self._layout.native:
                    raise
                # A partition that was there is gone; make it again and try once more.
                self._partitions.forget()
                return self._transaction(batches, dimensions, epoch, seconds)
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded) as error:
            raise RefusedError(f"PostgreSQL refuses the records: {_message(error)}") from error
        except UnicodeError as error:  # what the client's library cannot write; the connection is in an odd state
            self.close()
            raise RefusedError(f"a text cannot be written: {error}") from error
        except (psycopg.errors.QueryCanceled, psycopg.errors.IdleInTransactionSessionTimeout) as error:
            self.close()
            raise TimedOutError(f"PostgreSQL took too long: {_message(error)}") from error
        except psycopg.Error as error:
            self.close()
            raise UnavailableError(f"PostgreSQL is not available: {_message(error)}") from error

    def interrupt(self) -> None:
        """Break off the write under way, from another thread. It then raises `UnavailableError`.

        One that has no connection yet ends once it has one, which is kept, or cannot be connected.
        """
        self._interrupted = True
        if self._connection is not None:
            break_off(self._connection)

    def close(self) -> None:
        """Close the connection. The next write opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> Connection:
        if self._connection is None or self._connection.closed:
            milliseconds = self._timeout // timedelta(milliseconds=1)
            self._connection = self._connections.open(
                {
                    "statement_timeout": f"{milliseconds}ms",
                    "lock_timeout": "0",
                    "idle_in_transaction_session_timeout": f"{2 * milliseconds}ms",
                    "synchronous_commit": self._synchronous_commit,
                }
            )
            self._left, self._begun = self._begun or self._left, None
        # Looked at once there is a connection: whoever interrupts looks for one when this is set.
        if self._interrupted:
            raise UnavailableError("the write was broken off while it was connecting")
        self._end_what_was_left(self._connection)
        return self._connection

    def _end_what_was_left(self, connection: Connection) -> None:
        """End the transaction of a connection that broke, where the server has not heard of that.

        While it waits for rows no timeout of the server's ends it, and nobody can store its batches again.
        """
        if self._left is not None:
            connection.execute(_END, self._left)
            self._left = None

    def _transaction(
        self, batches: Sequence[PreparedRows], dimensions: DimensionRows, epoch: int | None, seconds: float
    ) -> list[bool]:
        connection = self._connect()
        if self._layout.native:
            self._make_partitions(connection, batches)
        digests = sorted({batch.batch.digest for batch in batches if batch.timestamped})
        with connection.transaction():
            with connection.pipeline() as pipeline:
                if timedelta(seconds=seconds) > self._timeout:
                    connection.execute(_MORE_TIME, (f"{1000 * seconds:.0f}ms", f"{2000 * seconds:.0f}ms"))
                # The lock keeps dimensions from being collected until this transaction ends; the epoch is read by a
                # statement of its own, so that it is as of after the lock.
                hold_lock(connection, Lock.DIMENSIONS, shared=True)
                begun = connection.execute(_BEGIN)
                receipts = connection.execute(_INSERT_RECEIPTS, ([uuid.UUID(bytes=d) for d in digests],))
                # At its end the pipeline sends Flush after Sync, which stops the server's clock for transactions that
                # are idle: were the answers lost then, the receipts would be held until the connection is found dead.
                pipeline.sync()
                if (found := begun.fetchone()) is not None:
                    self._begun = found[1], found[2]
            if found is not None and not found[3]:  # what is stored now, the copy or restore under way would delete
                raise UnavailableError(RESTORE_UNFINISHED)
            if found is None or found[0] != epoch:
                raise DimensionsCollectedError(0 if found is None else found[0])
            new_digests = {row[0].bytes for row in receipts}
            new = []
            for batch in batches:
                new.append(not batch.timestamped or batch.batch.digest in new_digests)
                new_digests.discard(batch.batch.digest)  # the second of two equal batches in one commit is not new
            if not all(new):
                known = next(batch.batch.digest for batch, is_new in zip(batches, new, strict=True) if not is_new)
                connection.execute(_WAIT_FOR_STANDBYS, (uuid.UUID(bytes=known),))
            rows = [batch.rows for batch, is_new in zip(batches, new, strict=True) if is_new and batch.rows]
            events = _new_events(connection, [event for batch in rows for event in batch.identified])
            self._store(connection, rows, events, dimensions, epoch)
        kept = {id(event) for event in events}
        return [is_new and not _known(batch.rows, kept) for batch, is_new in zip(batches, new, strict=True)]

    def _make_partitions(self, connection: Connection, batches: Sequence[PreparedRows]) -> None:
        needed: dict[str, set[int]] = {}
        for batch in batches:
            for table, intervals in (batch.rows.intervals if batch.rows else {}).items():
                needed.setdefault(table, set()).update(intervals)
        for table, intervals in needed.items():
            self._partitions.ensure(connection, table, intervals)

    def _is_worth_direct_copy(self, rows: Sequence[Rows]) -> bool:
        """Tell whether the columnstore would get enough points of each series at once to compress them well."""
        series = [points.series for batch in rows for points in batch.points]
        if self._direct_copy_points is None or not series:
            return False
        joined = np.concatenate(series)
        return len(joined) >= self._direct_copy_points * len(np.unique(joined))

    def _store(
        self,
        connection: Connection,
        rows: Sequence[Rows],
        events: Sequence[IdentifiedRow],
        dimensions: DimensionRows,
        epoch: int | None,
    ) -> None:
        for table, its_rows in dimensions.items():
            if table == SETS:
                _store_sets(connection, its_rows, epoch)
                continue
            if table == SEEN:
                connection.execute(_INSERT_SEEN, [list(column) for column in zip(*in_order(its_rows), strict=True)])
                continue
            rest = in_order(its_rows)
            # A statement of all at once would take long, and hold up every other thread while it is put together.
            while some := list(itertools.islice(rest, _ROWS_A_STATEMENT)):
                columns = [list(map(_text, column)) for column in zip(*some, strict=True)]
                connection.execute(_INSERT_DIMENSIONS[table], [epoch, *columns])
        for table, copy in _COPY.items():
            chunks = [chunk for batch in rows for chunk in batch.chunks.get(table, ())]
            if table == "sample":
                chunks = [chunk for batch in rows for points in batch.points for chunk in sample_rows(points)]
            if table == "log" and events:
                chunks.append(b"".join([event.row for event in events]))  # each write to the stream has its price
            if not chunks:
                continue
            if table == "sample" and self._is_worth_direct_copy(rows):
                connection.execute("SET LOCAL timescaledb.enable_direct_compress_copy = on")
            with connection.cursor().copy(copy) as stream:
                stream.write(COPY_HEADER)
                for chunk in chunks:
                    stream.write(chunk)
                stream.write(COPY_TRAILER)
        minutes = sorted(set().union(*(batch.minutes for batch in rows)))
        if minutes:
            connection.execute(
                "INSERT INTO rollup_pending (minute) SELECT to_timestamp(m * 60) FROM unnest(%s::bigint[]) AS m",
                (minutes,),
            )


def _store_sets(connection: Connection, rows: Mapping[int, tuple[Any, ...]], epoch: int | None) -> None:
    """Insert sets, each with its members if it was not there."""
    known = connection.execute(_INSERT_SETS, (epoch, sorted(rows))).fetchall()
    new = [key for key, is_new in known if is_new]
    if not new:
        return
    with connection.cursor().copy(_COPY_MEMBERS) as stream:
        stream.write(COPY_HEADER)
        for key in new:
            stream.write(member_rows(key, rows[key][1]))
        stream.write(COPY_TRAILER)


def _new_events(connection: Connection, events: Sequence[IdentifiedRow]) -> list[IdentifiedRow]:
    """Note the identities of events, in their order so that no two writers deadlock; return the events that are new."""
    first: dict[bytes, IdentifiedRow] = {}
    for event in events:
        first.setdefault(event.uid, event)
    if not first:
        return []
    uids = sorted(first)
    times = [first[uid].unix_nano / 1e9 for uid in uids]
    known = connection.execute(_INSERT_IDENTITIES, (_array(map(bytes.hex, uids)), _array(map(repr, times)))).fetchall()
    for (uid,) in known:
        del first[uid.bytes]
    return list(first.values())


def _array(items: Iterable[str]) -> str:
    """Return items, which are digits, as a PostgreSQL array."""
    return "{" + ",".join(items) + "}"


def _known(rows: Rows | None, kept: set[int]) -> bool:
    """Tell whether a batch holds nothing but events that the store had."""
    if rows is None or not rows.identified or len(rows.identified) < rows.count:
        return False
    return not any(id(event) in kept for event in rows.identified)


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value


def _message(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error).strip() or type(error).__name__
