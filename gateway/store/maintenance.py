"""What the gateway does for its store beside writing: partitions, rollups, receipts, dimensions.

Every gateway process runs this; whoever holds the lock does the work, the others find it taken.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql

from gateway.store import layout, partitions, policies, restore_mark
from gateway.store.clock import Clock
from gateway.store.collection import collect_dimensions
from gateway.store.dropped_before import dropped_before, note_dropped
from gateway.store.locks import Lock, try_hold
from gateway.store.schema import SchemaError
from gateway.store.settings import StoreSettings

_log = logging.getLogger(__name__)

_AHEAD = 2  # partitions beyond the present one
_RECEIPTS_AT_ONCE = 20_000

# Values above 1e290 are left out of the sum: PostgreSQL raises an error for one that has no double.
_ROLL_UP = {
    "sample_1m": sql.SQL("""
        SELECT
            date_bin('1 minute', time, 'epoch') AS time, series_id,
            count(*) AS count, sum(value) FILTER (WHERE abs(value) <= 1e290 OR abs(value) = 'Infinity') AS sum,
            min(value) AS min, max(value) AS max, (array_agg(value ORDER BY time DESC, time_ns DESC))[1] AS last,
            max(time) AS last_time
        FROM sample
        WHERE time >= %(lower)s AND time < %(upper)s AND value <> 'NaN'
        GROUP BY 1, 2
    """),
    "sample_1h": sql.SQL("""
        SELECT
            date_bin('1 hour', time, 'epoch') AS time, series_id,
            sum(count) AS count, sum(sum) AS sum, min(min) AS min, max(max) AS max,
            (array_agg(last ORDER BY time DESC))[1] AS last, max(last_time) AS last_time
        FROM sample_1m
        WHERE time >= %(lower)s AND time < %(upper)s
        GROUP BY 1, 2
    """),
}
_SOURCES = {"sample_1m": "sample", "sample_1h": "sample_1m"}
"""What each rollup is computed from."""
_DELETE = sql.SQL("DELETE FROM {} WHERE time >= %(lower)s AND time < %(upper)s")
_INSERT = sql.SQL("INSERT INTO {} (time, series_id, count, sum, min, max, last, last_time) ")
_INSERT_MISSING = sql.SQL(
    "INSERT INTO {0} (time, series_id, count, sum, min, max, last, last_time) SELECT * FROM ({1}) AS fresh"
    " WHERE NOT EXISTS (SELECT FROM {0} AS known WHERE known.time = fresh.time AND known.series_id = fresh.series_id)"
)


class Maintenance:
    """One round of maintenance at a time, on a connection that is given."""

    def __init__(self, settings: StoreSettings, present: layout.Layout) -> None:
        self._settings = settings
        self._layout = present
        self._partitions = partitions.Partitions(settings.chunk_interval)
        self._clock = Clock(settings.receipt_window)
        self._collected_at = time.monotonic()

    def run(self, connection: layout.Connection) -> bool:
        """Do what is due. Returns False when another gateway is at it.

        Raises `psycopg.Error`, and `schema.SchemaError` when the store is not whole.
        """
        if restore_mark.is_unfinished(connection):
            raise SchemaError(restore_mark.MESSAGE)
        if self._layout.native:
            self._partitions.forget()  # some of them may have been dropped, here or by another gateway
            self.make_partitions(connection)
        if not self.roll_up(connection):
            return False
        now = self._clock.now(connection)
        if now is not None:
            if not self._layout.community:
                self.apply_retention(connection, now)
            self.remove_receipts(connection, now)
            self.remove_identities(connection, now)
        if time.monotonic() - self._collected_at >= self._settings.collect_interval.total_seconds():
            self._collected_at = time.monotonic()
            removed = collect_dimensions(connection)
            if any(removed.values()):
                _log.info("removed dimensions that nothing refers to: %s", removed)
        return True

    def make_partitions(self, connection: layout.Connection) -> None:
        """Make the present partitions and the next ones."""
        now = partitions.interval_of(datetime.now(UTC), self._settings.chunk_interval)
        for table in (*layout.FACTS, *layout.ROLLUPS):
            self._partitions.ensure(connection, table, range(now, now + _AHEAD + 1))

    def apply_retention(self, connection: layout.Connection, now: datetime) -> None:
        """Drop what is older than it may be, where TimescaleDB does not do so itself."""
        for table, kept in policies.retention_of(self._settings).items():
            if kept is None:
                continue
            if table in _SOURCES.values():
                note_dropped(connection, table, now - kept)
            if not self._layout.native:
                connection.execute(
                    "SELECT drop_chunks(%s::regclass, older_than => %s::timestamptz)", (table, now - kept)
                )
                continue
            try:
                dropped = partitions.drop_before(connection, table, now - kept)
            except psycopg.errors.LockNotAvailable:
                _log.info("partitions of %s are in use; they are dropped the next time", table)
                continue
            if dropped:
                _log.info("dropped expired partitions: %s", ", ".join(dropped))

    def roll_up(self, connection: layout.Connection) -> bool:
        """Compute anew the rollups of the minutes that got data points, and of their hours.

        Returns False when another gateway is at it. What retention may have taken the points of is never computed
        anew: the few that came late would take the place of all that were there. Series that had nothing in such an
        interval get what came.
        """
        minute, hour = timedelta(minutes=1), timedelta(hours=1)
        if self._layout.native and self._settings.rollups:
            _summarize(connection)
        with connection.transaction():
            if not try_hold(connection, Lock.MAINTENANCE):
                return False
            if not self._layout.gateway_rollups:
                return True
            pending = [row[0] for row in connection.execute("DELETE FROM rollup_pending RETURNING minute")]
            if not self._settings.rollups:
                return True
            minutes = sorted(set(pending))
            hours = sorted({at.astimezone(UTC).replace(minute=0) for at in minutes})
            for table, starts, bucket in (("sample_1m", minutes, minute), ("sample_1h", hours, hour)):
                if self._layout.native:
                    its_intervals = {partitions.interval_of(at, self._settings.chunk_interval) for at in starts}
                    self._partitions.ensure(connection, table, its_intervals)
                taken = dropped_before(connection, _SOURCES[table]) or datetime.min.replace(tzinfo=UTC)
                name = sql.Identifier(table)
                for lower, upper in _ranges([at for at in starts if at < taken], bucket):
                    bounds = {"lower": lower, "upper": upper}
                    connection.execute(_INSERT_MISSING.format(name, _ROLL_UP[table]), bounds)
                for lower, upper in _ranges([at for at in starts if at >= taken], bucket):
                    bounds = {"lower": lower, "upper": upper}
                    connection.execute(_DELETE.format(name), bounds)
                    connection.execute(_INSERT.format(name) + _ROLL_UP[table], bounds)
            return True

    def remove_identities(self, connection: layout.Connection, now: datetime) -> None:
        """Remove the identities of events so old that they would no longer be accepted."""
        past = self._settings.accepted_past(self._settings.retention.logs) + self._settings.receipt_window
        removed = _RECEIPTS_AT_ONCE
        while removed == _RECEIPTS_AT_ONCE:
            removed = connection.execute(
                "DELETE FROM event_identity WHERE uid IN (SELECT uid FROM event_identity WHERE time < %s LIMIT %s)",
                (now - past, _RECEIPTS_AT_ONCE),
            ).rowcount

    def remove_receipts(self, connection: layout.Connection, now: datetime) -> None:
        """Remove the receipts of batches older than the window in which they are recognized."""
        removed = _RECEIPTS_AT_ONCE
        while removed == _RECEIPTS_AT_ONCE:
            removed = connection.execute(
                "DELETE FROM receipt WHERE digest IN (SELECT digest FROM receipt WHERE received_at < %s LIMIT %s)",
                (now - self._settings.receipt_window, _RECEIPTS_AT_ONCE),
            ).rowcount


def _ranges(starts: Iterable[datetime], length: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Join adjacent intervals of one length into ranges. The starts are sorted."""
    lower: datetime | None = None
    upper: datetime | None = None
    for start in starts:
        if lower is None or upper is None:
            lower = start
        elif start != upper:
            yield lower, upper
            lower = start
        upper = start + length
    if lower is not None and upper is not None:
        yield lower, upper


def _summarize(connection: layout.Connection) -> None:
    """Let the BRIN indexes know the newest rows, which otherwise are read in full for every minute."""
    connection.execute(
        "SELECT brin_summarize_new_values(c.oid) FROM pg_class c JOIN pg_am a ON a.oid = c.relam"
        " JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_inherits h ON h.inhrelid = c.oid"
        " WHERE a.amname = 'brin' AND c.relkind = 'i' AND h.inhparent IN"
        " ('sample_time'::regclass, 'sample_1m_time'::regclass)"
    )
